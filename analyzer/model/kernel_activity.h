// Faults and arriving bytes laid on the kernels that ran when they happened.
//
// CUPTI's fault records carry no kernel, so time on the device is all there is: what started while a kernel ran on the
// same device is laid on that kernel. Either record may come first. What has no kernel yet waits in slots sorted by
// time; when there are too many, neighbouring slots are merged, so memory stays bounded and everything stays accounted
// for; the border of a kernel is then as blurred as a slot is wide. What no kernel ever claims belongs to no kernel.
#pragma once

#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

namespace uvmtrace::analyzer {

// What happened on a device in some span of time.
struct KernelLoad {
  uint64_t gpu_fault_groups = 0;
  uint64_t gpu_fault_entries = 0;
  uint64_t host_to_device_bytes = 0;
  uint64_t sampled_host_to_device_bytes = 0;  // the part of it that was recorded at the detail "sampled"

  bool any() const { return (gpu_fault_groups | gpu_fault_entries | host_to_device_bytes) != 0; }
  void Add(const KernelLoad& other) {
    gpu_fault_groups += other.gpu_fault_groups;
    gpu_fault_entries += other.gpu_fault_entries;
    host_to_device_bytes += other.host_to_device_bytes;
    sampled_host_to_device_bytes += other.sampled_host_to_device_bytes;
  }
};

struct KernelStatistics {
  uint64_t count = 0;
  uint64_t total_ns = 0;
  KernelLoad load;
};

// Of one device.
class KernelActivity {
 public:
  static constexpr size_t kMaximumSlots = 8192;
  static constexpr size_t kRecentKernels = 1024;

  void AddKernel(uint32_t name, uint64_t start_ns, uint64_t end_ns);
  void AddActivity(uint64_t time_ns, const KernelLoad& load);

  // By id of the name; what no kernel claimed is in unclaimed().
  const std::unordered_map<uint32_t, KernelStatistics>& kernels() const { return kernels_; }
  KernelStatistics unclaimed() const;

 private:
  struct Slot {
    uint64_t first_ns;
    uint64_t last_ns;
    KernelLoad load;
  };
  struct Kernel {
    uint64_t start_ns;
    uint64_t end_ns;
    uint32_t name;
  };

  void MergeSlots();

  std::unordered_map<uint32_t, KernelStatistics> kernels_;
  std::vector<Slot> slots_;     // sorted by first_ns, disjoint
  std::vector<Kernel> recent_;  // sorted by start
  uint64_t newest_kernel_end_ns_ = 0;
};

}  // namespace uvmtrace::analyzer
