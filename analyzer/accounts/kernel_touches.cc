#include "analyzer/accounts/kernel_touches.h"

#include <protozero/exception.hpp>

#include "analyzer/model/event_values.h"
#include "analyzer/read/chunk.h"

namespace uvmtrace::analyzer {
namespace {

constexpr ColumnMask kColumns = ColumnMask{1} << gpu_faults::kStart | ColumnMask{1} << gpu_faults::kAddress |
                                ColumnMask{1} << gpu_faults::kDevice | ColumnMask{1} << gpu_faults::kAccess;

constexpr uint32_t Bit(Access access) { return uint32_t{1} << static_cast<uint32_t>(access); }

}  // namespace

void KernelTouches::Add(const KernelTouch& touch) {
  const auto known = touches_.find(touch.Key());
  if (known == touches_.end()) {
    if (touches_.size() < kMaximumTouches) touches_.emplace(touch.Key(), touch);
    return;
  }
  KernelTouch& sum = known->second;
  sum.count += touch.count;
  sum.written |= touch.written;
  if (touch.first_ns >= sum.first_ns) return;
  sum.first_ns = touch.first_ns;
  sum.address = touch.address;
}

void KernelTouches::Seal() {
  for (const auto& [key, touch] : touches_) {
    Seen& seen = seen_.emplace_back();
    seen.touch = touch;
    by_granule_[touch.granule].push_back(&seen);
  }
}

void KernelTouches::ReadGpuFaults(std::string_view fields, ColumnBatch* batch, ClockConverter* clocks) {
  try {
    ForEachColumns(fields, [&](EventKind kind, std::string_view message) {
      if (kind != EventKind::kGpuFaults) return;
      DecodeColumns(kind, message, batch, kColumns);
      // The driver sorts faults by address: the next is of the same granule as a rule.
      uint64_t granule = ~uint64_t{0};
      auto here = by_granule_.end();
      for (size_t row = 0; row < batch->rows; ++row) {
        const uint64_t address = (*batch)[gpu_faults::kAddress][row];
        if (address / KernelTouch::kGranuleBytes != granule) {
          granule = address / KernelTouch::kGranuleBytes;
          here = by_granule_.find(granule);
        }
        if (here == by_granule_.end()) continue;
        const auto time_ns = clocks->ToMonotonic(batch->clock, (*batch)[gpu_faults::kStart][row]);
        const int32_t device = DeviceOrdinal((*batch)[gpu_faults::kDevice][row]);
        const uint64_t access = (*batch)[gpu_faults::kAccess][row];
        if (!time_ns || access >= kAccessCount) continue;
        for (Seen* seen : here->second) {
          const KernelRun& kernel = seen->touch.kernel;
          if (kernel.device == device && *time_ns >= kernel.start_ns && *time_ns < kernel.end_ns)
            seen->accesses.fetch_or(uint32_t{1} << access, std::memory_order_relaxed);
        }
      }
    });
  } catch (const ColumnError&) {
    // The chunk was whole when it was read first: somebody writes into the file.
  } catch (const protozero::exception&) {
  }
}

std::vector<KernelTouch> KernelTouches::Races() const {
  std::vector<KernelTouch> races;
  for (const Seen& seen : seen_) {
    const uint32_t accesses = seen.accesses.load(std::memory_order_relaxed);
    const bool used = (accesses & (Bit(Access::kRead) | Bit(Access::kWrite))) != 0;
    if (used && (seen.touch.written || (accesses & Bit(Access::kWrite)) != 0)) races.push_back(seen.touch);
  }
  return races;
}

}  // namespace uvmtrace::analyzer
