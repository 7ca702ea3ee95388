#include "analyzer/findings/hazard_words.h"

#include <fmt/format.h>

#include "analyzer/model/kinds.h"
#include "analyzer/units.h"

namespace uvmtrace::analyzer {
namespace {

// "2.00 MiB of managed memory"
std::string Memory(const HazardRow& row) {
  if (row.kind().empty()) return "memory of no known allocation";
  const std::string kind = row.kind() == "physical" ? "mapped" : row.kind();
  return fmt::format("{} of {} memory", FormatBytes(row.memory_bytes()), kind);
}

std::string ErrorName(int32_t result) {
  switch (result) {
    case 1:
      return " (invalid value)";
    case 17:
      return " (invalid device pointer)";
    case 101:
      return " (invalid device)";
    case 400:
      return " (invalid handle)";
    case 700:
      return " (illegal address)";
    case 713:
      return " (host memory not registered)";
    case 801:
      return " (not supported)";
    default:
      return "";
  }
}

std::string Failed(const HazardRow& row) {
  return row.has_result() ? fmt::format("failed with error {}{}", row.result(), ErrorName(row.result())) : "succeeded";
}

std::string FreedBy(const HazardRow& row) {
  if (row.freed_by() == "reset") return "that a reset of the device had freed";
  if (row.freed_by() == "unmap") return "that had been unmapped";
  if (row.freed_by() == "stream_ordered_free") return "that had been freed in the same stream";
  return "that had been freed";
}

std::string Place(int32_t location) {
  if (location == kCpu) return "the CPU";
  return location >= 0 ? fmt::format("GPU {}", location) : "a place that is none";
}

std::string RefusedHint(const HazardRow& row) {
  const std::string call = fmt::format("{} for {} {}", row.function(), Place(row.location()),
                                       row.has_result() ? Failed(row) : "succeeded and changed nothing");
  if (row.kind().empty()) return call + ": no allocation is known at that address";
  if (row.kind() != "managed")
    return fmt::format("{}: the address is in {}, which does not migrate", call, Memory(row));
  if (row.result() == 101) {
    return call + ": there is no such device, or it cannot fault on managed memory (concurrentManagedAccess)";
  }
  return fmt::format("{}: the address is in {}, but the driver refused the range or the place", call, Memory(row));
}

std::string UnmapUnderKernel(const HazardRow& row) {
  const std::string call = fmt::format("{} of {}", row.function(), Memory(row));
  if (!row.has_ran_on_ns()) {
    return call +
           " found a kernel running that had begun after the memory was mapped; it returned after the kernel's end, "
           "which "
           "is not promised";
  }
  return fmt::format(
      "{} did not wait for a kernel that had begun after the memory was mapped, and that ran on for {}: if it uses "
      "that "
      "memory, it faults",
      call, FormatDuration(row.ran_on_ns()));
}

}  // namespace

std::string HazardName(HazardKind kind) {
  switch (kind) {
    case HazardKind::kUnmapUnderKernel:
      return "unmap_under_kernel";
    case HazardKind::kFreeWaited:
      return "free_waited";
    case HazardKind::kDoubleFree:
      return "double_free";
    case HazardKind::kInteriorFree:
      return "interior_free";
    case HazardKind::kUseAfterFree:
      return "use_after_free";
    case HazardKind::kUnusedPrefetch:
      return "unused_prefetch";
    case HazardKind::kRefusedHint:
      return "refused_hint";
    case HazardKind::kTouchUnderKernel:
      return "touch_under_kernel";
  }
  return "unknown";
}

std::string HazardSeverity(HazardKind kind) {
  switch (kind) {
    case HazardKind::kDoubleFree:
    case HazardKind::kInteriorFree:
    case HazardKind::kUseAfterFree:
      return "error";
    case HazardKind::kUnmapUnderKernel:
    case HazardKind::kRefusedHint:
    case HazardKind::kTouchUnderKernel:
      return "warning";
    default:
      return "cost";
  }
}

std::string EndedByName(EndedBy ended_by) {
  switch (ended_by) {
    case EndedBy::kFree:
      return "free";
    case EndedBy::kStreamOrderedFree:
      return "stream_ordered_free";
    case EndedBy::kUnmap:
      return "unmap";
    case EndedBy::kReset:
      return "reset";
    default:
      return "";
  }
}

std::string WhatHappened(HazardKind kind, const HazardRow& row) {
  switch (kind) {
    case HazardKind::kDoubleFree:
      return fmt::format("{} of {} {} {}", row.function(), Memory(row), FreedBy(row), Failed(row));
    case HazardKind::kInteriorFree:
      return fmt::format("{} of an address {} into {} {}", row.function(),
                         FormatBytes(row.address() - row.memory_address()), Memory(row), Failed(row));
    case HazardKind::kUseAfterFree:
      return fmt::format("{} used {} {}, and {}", row.function(), Memory(row), FreedBy(row), Failed(row));
    case HazardKind::kUnmapUnderKernel:
      return UnmapUnderKernel(row);
    case HazardKind::kFreeWaited:
      return fmt::format("{} of {} found a kernel running or about to, and waited {}{}", row.function(), Memory(row),
                         FormatDuration(row.time_ns()), row.count() > 1 ? " in all" : "");
    case HazardKind::kUnusedPrefetch: {
      const std::string moved = row.has_moved_bytes() && row.moved_bytes() > 0
                                    ? fmt::format(", of which {} moved", FormatBytes(row.moved_bytes()))
                                    : "";
      return fmt::format(
          "{} brought {} to {}{}, in {}, and the memory was freed before a kernel, a copy or a fault used it",
          row.function(), FormatBytes(row.bytes()), Place(row.location()), moved, FormatDuration(row.time_ns()));
    }
    case HazardKind::kRefusedHint:
      return RefusedHint(row);
    case HazardKind::kTouchUnderKernel:
      return fmt::format(
          "the CPU touched {} while a kernel that used the same 64 KiB of it was running, so nothing had waited for "
          "that kernel; at least one of the two wrote",
          Memory(row));
  }
  return "";
}

std::string WhatToDo(HazardKind kind, const HazardRow& row) {
  switch (kind) {
    case HazardKind::kDoubleFree:
      if (row.freed_by() == "reset") return "Free before the reset, or not at all.";
      return "Free it once, and clear the pointer then: had the address been given out again in between, this call "
             "would have freed somebody else's memory.";
    case HazardKind::kInteriorFree:
      return "Free the address that the allocation returned; the memory is still allocated.";
    case HazardKind::kUseAfterFree:
      return row.has_result()
                 ? "Free after the last use."
                 : "Free after the last use. That it succeeded is luck: the driver keeps freed memory mapped "
                   "for a while, and may have given it to another allocation.";
    case HazardKind::kUnmapUnderKernel:
      return "Wait for the stream or event of the last kernel that uses the memory before unmapping it.";
    case HazardKind::kFreeWaited:
      if (row.kind() == "device" || row.kind() == "pool") {
        return "Free where the GPU is idle anyway, or use cudaMallocAsync and cudaFreeAsync, which wait in the stream "
               "and not in the program.";
      }
      return "Free where the GPU is idle anyway, or keep the memory for the next use.";
    case HazardKind::kUnusedPrefetch:
      return "Leave the prefetch out where the memory is about to be freed.";
    case HazardKind::kRefusedHint:
      if (row.kind() == "managed") return "Check the range and the device that the call is given.";
      return "Prefetch and advise managed memory alone, and look at the result: the call does nothing.";
    case HazardKind::kTouchUnderKernel:
      return "Wait for the kernel first (cudaStreamSynchronize, or an event behind it): what the CPU reads, and what "
             "the kernel finds, depends on who comes first. Where the two use different bytes of those 64 KiB it is no "
             "race, but the page goes back and forth.";
  }
  return "";
}

}  // namespace uvmtrace::analyzer
