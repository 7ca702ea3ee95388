// What a function of the driver or of the kernel is busy with when it stands in the stack of a fault-servicing thread.
//
// One table, of names that the open driver has had from 515 to 595 and that kernels have had for a decade. A newer
// driver may rename, inline or add functions: what no rule knows stays visible as a row of its own.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

namespace uvmtrace::analyzer {

enum class DriverWork : unsigned char {
  kCopy,            // moving bytes: pushing copies to the GPU
  kCpuUnmap,        // taking pages out of the CPU's page tables, with the interrupts that flush other cores' TLBs
  kPopulation,      // allocating and zeroing pages, and mapping CPU pages for the GPU's DMA
  kGpuMapping,      // writing the GPU's page tables and invalidating its TLB
  kFaultFetch,      // reading the fault buffer
  kPreprocess,      // sorting faults, translating instances
  kReplay,          // telling the GPU to try again, and flushing its fault buffer
  kGpuWait,         // waiting for the GPU: a batch's copies and their time stamps, then its replay
  kEviction,        // making room, copies included
  kPolicy,          // deciding where pages go: residency, prefetcher, thrashing
  kSystemMemory,    // migrating memory that was not allocated by CUDA (ATS, HMM)
  kAccessCounters,  // migrating for access counters
  kTools,           // recording events for a profiler: us
  kOther,           // servicing faults, at a place that no rule tells more of
  kUnknown,         // no function that any rule knows
};
inline constexpr size_t kDriverWorkCount = 15;

// "copy", "cpu_unmap", ...: values of BottomHalfTimeRow.part.
std::string_view DriverWorkName(DriverWork work);

// `frames` from the innermost outwards.
DriverWork ClassifyStack(const std::vector<std::string_view>& frames);

}  // namespace uvmtrace::analyzer
