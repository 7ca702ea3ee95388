// One number of several runs.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

namespace uvmtrace::analyzer {

class Samples {
 public:
  void Add(double value) { values_.insert(std::upper_bound(values_.begin(), values_.end(), value), value); }
  bool empty() const { return values_.empty(); }
  size_t size() const { return values_.size(); }
  // None of these may be asked of no values.
  double Low() const { return values_.front(); }
  double High() const { return values_.back(); }
  double Median() const {
    const size_t half = values_.size() / 2;
    return values_.size() % 2 == 1 ? values_[half] : (values_[half - 1] + values_[half]) / 2;
  }

 private:
  std::vector<double> values_;  // ascending
};

inline bool Overlap(const Samples& a, const Samples& b) { return a.Low() <= b.High() && b.Low() <= a.High(); }

// How likely two equal programs' runs are not to overlap: of the C(n + m, n) orders in which the runs can come, equally
// likely ones, two have all of one side first.
inline double ChanceOfNoOverlap(size_t n, size_t m) {
  double orders = 1;
  for (size_t i = 1; i <= n; ++i) orders = orders * static_cast<double>(m + i) / static_cast<double>(i);
  return std::min(1.0, 2 / orders);
}

}  // namespace uvmtrace::analyzer
