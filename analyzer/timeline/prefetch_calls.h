// The prefetch calls of a run, so that what moved because of a call can be laid on that call.
//
// The driver says that a migration was asked for, not by which call: it was the latest call on that memory, to that
// place, that had begun by then. libcuda may do the work long after the call returned.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <tuple>
#include <vector>

namespace uvmtrace::analyzer {

class PrefetchCalls {
 public:
  static constexpr size_t kMaximumCalls = size_t{1} << 20;
  static constexpr uint64_t kClockErrorNs = 50'000;
  static constexpr uint32_t kNone = ~uint32_t{0};

  struct Call {
    uint64_t start_ns = 0;
    uint64_t address = 0;
    uint64_t end = 0;
    uint32_t version = 0;  // of the memory
    uint32_t call_site = 0;
    int32_t location = 0;
    uint32_t number = 0;  // in the order of Add
  };

  // The number of the call, or kNone where there are too many.
  uint32_t Add(Call call) {
    if (calls_.size() >= kMaximumCalls) return kNone;
    call.number = static_cast<uint32_t>(calls_.size());
    calls_.push_back(call);
    return call.number;
  }
  size_t size() const { return calls_.size(); }

  // After the last Add.
  void Seal() {
    std::sort(calls_.begin(), calls_.end(), [](const Call& a, const Call& b) {
      return std::tie(a.version, a.start_ns, a.number) < std::tie(b.version, b.start_ns, b.number);
    });
  }

  // The number of the call that moved this, or kNone.
  uint32_t Find(uint32_t version, uint64_t time_ns, uint64_t address, int32_t destination) const {
    constexpr int kSearched = 256;
    auto call = std::upper_bound(calls_.begin(), calls_.end(), std::pair(version, time_ns + kClockErrorNs),
                                 [](const std::pair<uint32_t, uint64_t>& wanted, const Call& candidate) {
                                   return wanted < std::pair(candidate.version, candidate.start_ns);
                                 });
    for (int left = kSearched; call != calls_.begin() && left > 0; --left) {
      --call;
      if (call->version != version) break;
      // Whole pages move.
      if (address >= (call->address & ~uint64_t{0xffff}) && address < call->end + 0xffff &&
          call->location == destination)
        return call->number;
    }
    return kNone;
  }

  const std::vector<Call>& calls() const { return calls_; }

 private:
  std::vector<Call> calls_;
};

}  // namespace uvmtrace::analyzer
