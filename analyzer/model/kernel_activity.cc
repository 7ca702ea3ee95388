#include "analyzer/model/kernel_activity.h"

#include <algorithm>

namespace uvmtrace::analyzer {
namespace {

// Kernels that started before an event and still ran: more than this many at once are not looked through.
constexpr int kMaximumConcurrentKernels = 32;

}  // namespace

void KernelActivity::AddKernel(uint32_t name, uint64_t start_ns, uint64_t end_ns) {
  KernelStatistics& statistics = kernels_[name];
  ++statistics.count;
  statistics.total_ns += end_ns - start_ns;
  newest_kernel_end_ns_ = std::max(newest_kernel_end_ns_, end_ns);

  auto slot = std::lower_bound(slots_.begin(), slots_.end(), start_ns,
                               [](const Slot& candidate, uint64_t time_ns) { return candidate.last_ns < time_ns; });
  const auto first = slot;
  auto kept = slot;
  for (; slot != slots_.end() && slot->first_ns < end_ns; ++slot) {
    const uint64_t middle_ns = slot->first_ns + (slot->last_ns - slot->first_ns) / 2;
    if (middle_ns >= start_ns && middle_ns < end_ns) {
      statistics.load.Add(slot->load);
    } else {
      *kept++ = *slot;
    }
  }
  if (kept != slot && slot != first) slots_.erase(kept, slot);

  const Kernel kernel{start_ns, end_ns, name};
  auto position = recent_.end();
  while (position != recent_.begin() && (position - 1)->start_ns > start_ns) --position;
  recent_.insert(position, kernel);
  if (recent_.size() >= 2 * kRecentKernels) recent_.erase(recent_.begin(), recent_.begin() + kRecentKernels);
}

void KernelActivity::AddActivity(uint64_t time_ns, const KernelLoad& load) {
  if (time_ns < newest_kernel_end_ns_) {
    auto kernel =
        std::upper_bound(recent_.begin(), recent_.end(), time_ns,
                         [](uint64_t wanted, const Kernel& candidate) { return wanted < candidate.start_ns; });
    for (int searched = 0; kernel != recent_.begin() && searched < kMaximumConcurrentKernels; ++searched) {
      --kernel;
      if (time_ns >= kernel->end_ns) continue;
      kernels_[kernel->name].load.Add(load);
      return;
    }
  }
  // Nearly in order: the place is at the end or close to it.
  auto slot = slots_.end();
  while (slot != slots_.begin() && (slot - 1)->first_ns > time_ns) --slot;
  if (slot != slots_.begin() && (slot - 1)->last_ns >= time_ns) {
    --slot;
    slot->load.Add(load);
    return;
  }
  slots_.insert(slot, {time_ns, time_ns, load});
  if (slots_.size() >= kMaximumSlots) MergeSlots();
}

void KernelActivity::MergeSlots() {
  // Old ones first to go coarse: a kernel's record is rarely far behind its faults.
  const size_t old = slots_.size() * 3 / 4;
  size_t kept = 0;
  for (size_t i = 0; i < old; i += 2) {
    Slot merged = slots_[i];
    if (i + 1 < old) {
      merged.last_ns = slots_[i + 1].last_ns;
      merged.load.Add(slots_[i + 1].load);
    }
    slots_[kept++] = merged;
  }
  slots_.erase(slots_.begin() + static_cast<std::ptrdiff_t>(kept), slots_.begin() + static_cast<std::ptrdiff_t>(old));
}

KernelStatistics KernelActivity::unclaimed() const {
  KernelStatistics rest;
  for (const Slot& slot : slots_) rest.load.Add(slot.load);
  return rest;
}

}  // namespace uvmtrace::analyzer
