#include "analyzer/model/kernel_overlaps.h"

#include <algorithm>

namespace uvmtrace::analyzer {
namespace {

// A kernel that waits in the stream starts so soon after the one before it.
constexpr uint64_t kGapNs = 50'000;
constexpr uint64_t kShortestWaitNs = 50'000;

}  // namespace

KernelWindow::KernelWindow(std::vector<KernelRun> kernels) : kernels_(std::move(kernels)) {
  std::sort(kernels_.begin(), kernels_.end(),
            [](const KernelRun& a, const KernelRun& b) { return a.start_ns < b.start_ns; });
  uint64_t latest = 0;
  latest_end_.reserve(kernels_.size());
  for (const KernelRun& kernel : kernels_) latest_end_.push_back(latest = std::max(latest, kernel.end_ns));
}

size_t KernelWindow::FirstThatEndsAfter(uint64_t time_ns) const {
  // The latest end so far never falls: before the first one that is late enough, none ends late enough.
  return static_cast<size_t>(std::upper_bound(latest_end_.begin(), latest_end_.end(), time_ns) - latest_end_.begin());
}

size_t KernelWindow::FirstThatStartsAt(uint64_t time_ns) const {
  const auto first =
      std::lower_bound(kernels_.begin(), kernels_.end(), time_ns,
                       [](const KernelRun& kernel, uint64_t wanted) { return kernel.start_ns < wanted; });
  return static_cast<size_t>(first - kernels_.begin());
}

void Release::LayOn(const KernelWindow& window) {
  window.ForEach(start_ns, end_ns, [this](const KernelRun& run) {
    if (run.end_ns < start_ns + kShortestWaitNs) return;
    if (unmap) {
      const bool has_access = run.device >= 0 && run.device < 64 && (access_devices & (uint64_t{1} << run.device)) != 0;
      // A kernel of before the mapping cannot mean it; one that begins about now may have been launched afterwards.
      if (!has_access || run.start_ns < accessible_since_ns || run.start_ns + kClockErrorNs > start_ns) return;
    } else {
      // It ran on after the call: that one was not waited for.
      if (run.end_ns > end_ns + kClockErrorNs) return;
      const uint64_t waiting_until_ns = found ? until_ns : start_ns;
      if (run.start_ns > waiting_until_ns + kGapNs) return;
    }
    if (found && run.end_ns <= until_ns) return;
    if (!found || unmap) kernel = run.name;
    found = true;
    until_ns = run.end_ns;
  });
}

uint64_t Release::WaitedNs(bool several_devices) const {
  if (!found) return 0;
  const uint64_t waited_ns = std::min(until_ns, end_ns) - start_ns;
  if (unmap) return waited_ns;
  if (waits_by_contract && !several_devices) return waited_ns;
  // It returned when the kernel was done: that is no coincidence if it had little else to do.
  const uint64_t rest_ns = end_ns > until_ns ? end_ns - until_ns : 0;
  return rest_ns <= std::max<uint64_t>(200'000, waited_ns / 4) && waited_ns >= rest_ns ? waited_ns : 0;
}

void KernelOverlaps::Lay(const KernelWindow& window) {
  for (Release& release : releases_) release.LayOn(window);
}

void KernelOverlaps::ForgetOldKernels() {
  if (kernels_.size() <= kWindowKernels) return;
  const auto kept = kernels_.begin() + static_cast<std::ptrdiff_t>(kernels_.size() - kWindowKernels);
  std::nth_element(kernels_.begin(), kept, kernels_.end(),
                   [](const KernelRun& a, const KernelRun& b) { return a.end_ns < b.end_ns; });
  for (auto kernel = kernels_.begin(); kernel != kept; ++kernel) {
    forgotten_until_ns_ = std::max(forgotten_until_ns_, kernel->end_ns);
  }
  kernels_.erase(kernels_.begin(), kept);
}

std::vector<Release> KernelOverlaps::Take(bool all) {
  const auto kept = std::stable_partition(releases_.begin(), releases_.end(), [&](const Release& release) {
    return all || release.end_ns + kLatestKernelNs < newest_ns_;
  });
  auto last = kept;
  const size_t left = static_cast<size_t>(releases_.end() - kept);
  if (left > kMaximumReleases) last += static_cast<std::ptrdiff_t>(left - kMaximumReleases);
  std::vector<Release> taken(releases_.begin(), last);
  releases_.erase(releases_.begin(), last);
  return taken;
}

}  // namespace uvmtrace::analyzer
