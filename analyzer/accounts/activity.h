// What happened to some memory: the sums that every table of the report is made of.
//
// Events are added up in cells. A cell is one account (an allocation, or all of a call site), the kernels that ran, and
// the phases that the program was in. Sites, kernels, phases and their joins are sums over cells, so they balance.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "analyzer/model/kinds.h"

namespace uvmtrace::analyzer {

// Why a page had left the GPU that it came back to.
enum class LeftBecause : uint8_t { kUnknown = 0, kEviction = 1, kCall = 2, kTouch = 3 };
inline constexpr size_t kLeftBecauseCount = 4;

struct MemoryActivity {
  uint64_t gpu_fault_groups = 0;   // CUPTI
  uint64_t gpu_fault_records = 0;  // CUPTI
  uint64_t gpu_fault_entries = 0;  // driver's queue
  uint64_t cpu_faults = 0;
  uint64_t host_to_device_bytes = 0;
  uint64_t device_to_host_bytes = 0;
  uint64_t device_to_device_bytes = 0;
  uint64_t evicted_bytes = 0;
  uint64_t refaulted_bytes = 0;
  // The part of the bytes above that was recorded at the detail "sampled": it stands for more.
  uint64_t sampled_host_to_device_bytes = 0;
  uint64_t sampled_device_to_host_bytes = 0;
  uint64_t sampled_device_to_device_bytes = 0;
  uint64_t sampled_evicted_bytes = 0;
  // Parts of refaulted_bytes.
  std::array<uint64_t, kLeftBecauseCount> refaulted_after{};
  uint64_t prefetched_bytes = 0;  // to a GPU, by prefetch calls
  uint64_t faulted_bytes = 0;     // to a GPU, because of faults
  // Parts of host_to_device_bytes: what no prefetch call moved.
  uint64_t unasked_host_to_device_bytes = 0;
  uint64_t sampled_unasked_host_to_device_bytes = 0;
  uint64_t remote_mapped_bytes = 0;
  std::array<uint64_t, kAccessCount> accesses{};  // of gpu_fault_entries
  double gpu_waited_ns = 0;                       // share in the time that a GPU waited for its faults

  bool any() const {
    return (gpu_fault_records | gpu_fault_entries | cpu_faults | host_to_device_bytes | device_to_host_bytes |
            device_to_device_bytes) != 0;
  }
  bool any_sampled() const {
    return (sampled_host_to_device_bytes | sampled_device_to_host_bytes | sampled_device_to_device_bytes) != 0;
  }
  uint64_t moved_bytes() const { return host_to_device_bytes + device_to_host_bytes + device_to_device_bytes; }

  void Add(const MemoryActivity& other) {
    gpu_fault_groups += other.gpu_fault_groups;
    gpu_fault_records += other.gpu_fault_records;
    gpu_fault_entries += other.gpu_fault_entries;
    cpu_faults += other.cpu_faults;
    host_to_device_bytes += other.host_to_device_bytes;
    device_to_host_bytes += other.device_to_host_bytes;
    device_to_device_bytes += other.device_to_device_bytes;
    evicted_bytes += other.evicted_bytes;
    refaulted_bytes += other.refaulted_bytes;
    sampled_host_to_device_bytes += other.sampled_host_to_device_bytes;
    sampled_device_to_host_bytes += other.sampled_device_to_host_bytes;
    sampled_device_to_device_bytes += other.sampled_device_to_device_bytes;
    sampled_evicted_bytes += other.sampled_evicted_bytes;
    for (size_t i = 0; i < kLeftBecauseCount; ++i) refaulted_after[i] += other.refaulted_after[i];
    prefetched_bytes += other.prefetched_bytes;
    faulted_bytes += other.faulted_bytes;
    unasked_host_to_device_bytes += other.unasked_host_to_device_bytes;
    sampled_unasked_host_to_device_bytes += other.sampled_unasked_host_to_device_bytes;
    remote_mapped_bytes += other.remote_mapped_bytes;
    for (size_t i = 0; i < kAccessCount; ++i) accesses[i] += other.accesses[i];
    gpu_waited_ns += other.gpu_waited_ns;
  }
};

struct CellKey {
  uint32_t account = 0;  // 0: no known allocation
  uint32_t kernels = 0;  // a set of names
  uint32_t phases = 0;   // a set of names

  bool operator==(const CellKey& other) const {
    return account == other.account && kernels == other.kernels && phases == other.phases;
  }
  bool operator<(const CellKey& other) const {
    if (account != other.account) return account < other.account;
    if (kernels != other.kernels) return kernels < other.kernels;
    return phases < other.phases;
  }
};

}  // namespace uvmtrace::analyzer
