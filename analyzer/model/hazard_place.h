// What findings of hazards are told apart by. Places in the program's code are finite; what happens there is counted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <tuple>

#include "analyzer/model/allocation_table.h"

namespace uvmtrace::analyzer {

enum class HazardKind : uint8_t {
  kUnmapUnderKernel,
  kFreeWaited,
  kDoubleFree,
  kInteriorFree,
  kUseAfterFree,
  kUnusedPrefetch,
  kRefusedHint,  // a prefetch or advice
  kTouchUnderKernel,
};
inline constexpr size_t kHazardKindCount = 8;

// Findings that agree in all of this are one finding.
struct HazardPlace {
  HazardKind kind = HazardKind::kDoubleFree;
  uint32_t function = 0;
  int32_t result = 0;
  uint32_t stack = 0;
  MemoryKind memory_kind = MemoryKind::kUnknown;
  uint32_t allocation_stack = 0;
  uint32_t freed_stack = 0;  // of the free before
  EndedBy ended_by = EndedBy::kNothing;
  uint64_t pc = 0;  // of the CPU's instruction, where it is no call

  auto Key() const {
    return std::tuple(kind, function, result, stack, memory_kind, allocation_stack, freed_stack, ended_by, pc);
  }
  bool operator<(const HazardPlace& other) const { return Key() < other.Key(); }
};

}  // namespace uvmtrace::analyzer
