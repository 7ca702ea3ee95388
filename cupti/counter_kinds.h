// The eight unified-memory counters, what each is called in the trace, and what a refusal means in plain words.
#pragma once

#include <cupti.h>

#include <cstddef>
#include <cstdint>

namespace uvmtrace {

struct CounterKind {
  CUpti_ActivityUnifiedMemoryCounterKind kind;
  const char* source;  // name of its source state
};

// In the order of CUPTI's numbers, from 1.
inline constexpr CounterKind kCounterKinds[] = {
    {CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_BYTES_TRANSFER_HTOD, "cupti.htod_bytes"},
    {CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_BYTES_TRANSFER_DTOH, "cupti.dtoh_bytes"},
    {CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_CPU_PAGE_FAULT_COUNT, "cupti.cpu_page_faults"},
    {CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_GPU_PAGE_FAULT, "cupti.gpu_page_faults"},
    {CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_THRASHING, "cupti.thrashing"},
    {CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_THROTTLING, "cupti.throttling"},
    {CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_REMOTE_MAP, "cupti.remote_map"},
    {CUPTI_ACTIVITY_UNIFIED_MEMORY_COUNTER_KIND_BYTES_TRANSFER_DTOD, "cupti.dtod_bytes"},
};
inline constexpr size_t kCounterKindCount = sizeof kCounterKinds / sizeof kCounterKinds[0];
inline constexpr const char* kKernelSource = "cupti.kernels";
inline constexpr const char* kCopySource = "cupti.copies";
inline constexpr const char* kSynchronizationSource = "cupti.synchronizations";
inline constexpr const char* kLaunchSource = "cupti.launches";

// "CUPTI error 35 (CUPTI_ERROR_INSUFFICIENT_PRIVILEGES): ..." into text: what it means and what cures it.
void DescribeCuptiError(CUptiResult error, char* text, size_t text_size);

}  // namespace uvmtrace
