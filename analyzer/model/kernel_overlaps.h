// Which kernels ran while memory was being given back.
//
// CUPTI hands kernels over in buffers, long after they ended and in no order; a free or an unmap is recorded as it
// returns. So both wait here: the newest kernels in a window, the calls in a list, and whenever the window is full, and
// at the end, each call is laid on the kernels of the window. Doing that again with the same kernel changes nothing.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <set>
#include <vector>

#include "analyzer/model/hazard_place.h"

namespace uvmtrace::analyzer {

struct KernelRun {
  uint64_t start_ns = 0;
  uint64_t end_ns = 0;
  int32_t device = 0;
  uint32_t name = 0;
};

// Sorted by start, with what is needed to look backwards from an instant.
class KernelWindow {
 public:
  explicit KernelWindow(std::vector<KernelRun> kernels);

  // The latest end of the kernels that start before then; 0: there are none.
  uint64_t LatestEndOfThoseBefore(uint64_t until_ns) const {
    const size_t behind = FirstThatStartsAt(until_ns);
    return behind == 0 ? 0 : latest_end_[behind - 1];
  }

  // Kernels that start before `until_ns` and end after `from_ns`. Of those that started before `from_ns`, the newest
  // kMaximumConcurrent are looked through.
  static constexpr size_t kMaximumConcurrent = 1024;
  template <typename OnKernel>
  void ForEach(uint64_t from_ns, uint64_t until_ns, OnKernel on_kernel) const {
    const size_t started = FirstThatStartsAt(from_ns);
    size_t index =
        std::max(FirstThatEndsAfter(from_ns), started > kMaximumConcurrent ? started - kMaximumConcurrent : 0);
    for (; index < kernels_.size() && kernels_[index].start_ns < until_ns; ++index) {
      if (kernels_[index].end_ns > from_ns) on_kernel(kernels_[index]);
    }
  }

 private:
  size_t FirstThatEndsAfter(uint64_t time_ns) const;
  size_t FirstThatStartsAt(uint64_t time_ns) const;

  std::vector<KernelRun> kernels_;
  std::vector<uint64_t> latest_end_;  // of a kernel and all before it
};

// A call that gave memory back.
struct Release {
  // Clocks of the GPU and of the calls agree to this.
  static constexpr uint64_t kClockErrorNs = 50'000;

  uint64_t start_ns = 0;
  uint64_t end_ns = 0;
  bool unmap = false;
  bool waits_by_contract = false;    // cudaFree waits for the device; other calls must show it
  uint64_t access_devices = 0;       // of a mapping
  uint64_t accessible_since_ns = 0;  // of a mapping
  HazardPlace place;
  uint64_t memory_address = 0;
  uint64_t memory_bytes = 0;

  // Found out.
  uint64_t until_ns = 0;  // end of the last kernel that it waited for, or that ran beneath it
  uint32_t kernel = 0;
  bool found = false;

  void LayOn(const KernelWindow& window);
  // What to report; 0: nothing.
  uint64_t WaitedNs(bool several_devices) const;
};

class KernelOverlaps {
 public:
  static constexpr size_t kWindowKernels = 65536;
  static constexpr size_t kMaximumReleases = 65536;
  // Kernels come later than this in no trace that is not damaged.
  static constexpr uint64_t kLatestKernelNs = 10'000'000'000;

  void Add(const Release& release) { releases_.push_back(release); }
  void Add(const KernelRun& kernel) {
    kernels_.push_back(kernel);
    devices_.insert(kernel.device);
    if (kernel.end_ns > newest_ns_) newest_ns_ = kernel.end_ns;
  }
  bool full() const { return kernels_.size() >= 2 * kWindowKernels || releases_.size() >= 2 * kMaximumReleases; }

  // Lays everything on the kernels that are here, and forgets the older half of them.
  KernelWindow Window() const { return KernelWindow(kernels_); }
  void Lay(const KernelWindow& window);
  void ForgetOldKernels();
  // Those about which no more is to be learnt, or all.
  std::vector<Release> Take(bool all);

  bool several_devices() const { return devices_.size() > 1; }
  uint64_t newest_ns() const { return newest_ns_; }
  uint64_t forgotten_until_ns() const { return forgotten_until_ns_; }  // newest end of a kernel that was forgotten

 private:
  std::vector<KernelRun> kernels_;
  std::vector<Release> releases_;
  std::set<int32_t> devices_;
  uint64_t newest_ns_ = 0;
  uint64_t forgotten_until_ns_ = 0;
};

}  // namespace uvmtrace::analyzer
