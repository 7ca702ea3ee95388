#include "analyzer/findings/driver_symbols.h"

#include <array>

namespace uvmtrace::analyzer {
namespace {

enum class Match : unsigned char { kExact, kPrefix, kSubstring };

// The rank says how much a name tells. The rule of the highest rank in a stack decides; among equal ranks the innermost
// frame does, because it is what the outer ones were doing.
//   3  owns everything beneath it: an eviction copies and unmaps too, and is still an eviction
//   2  does one thing
//   1  leads to many things
// Functions that wait have no rule: they wait for what the frames around them do. The service loop itself waits for the
// replay, which the GPU reaches after the copies of the batch.
struct Rule {
  std::string_view name;
  Match match;
  unsigned char rank;
  DriverWork work;
};

constexpr Rule kRules[] = {
    // Evictions (uvm_pmm_gpu.c, uvm_va_block.c), access counters, memory that CUDA did not allocate.
    {"uvm_va_block_evict_chunks", Match::kExact, 3, DriverWork::kEviction},
    {"evict_root_chunk", Match::kPrefix, 3, DriverWork::kEviction},
    {"pick_and_evict_root_chunk", Match::kPrefix, 3, DriverWork::kEviction},
    {"uvm_pmm_gpu_evict", Match::kPrefix, 3, DriverWork::kEviction},
    {"uvm_hmm_va_block_evict", Match::kPrefix, 3, DriverWork::kEviction},
    {"uvm_service_access_counters", Match::kPrefix, 3, DriverWork::kAccessCounters},
    {"access_counters_isr_bottom_half", Match::kPrefix, 3, DriverWork::kAccessCounters},
    {"service_va_block_locked_access_counter", Match::kPrefix, 3, DriverWork::kAccessCounters},
    {"uvm_tools_", Match::kPrefix, 3, DriverWork::kTools},
    {"record_gpu_fault", Match::kPrefix, 3, DriverWork::kTools},
    {"enqueue_event", Match::kPrefix, 3, DriverWork::kTools},
    {"uvm_perf_event_notify", Match::kPrefix, 1, DriverWork::kOther},

    // Copies (uvm_va_block.c, uvm_channel.c, uvm_hal_*_ce).
    {"block_copy_resident_pages", Match::kPrefix, 2, DriverWork::kCopy},
    {"block_copy_pages", Match::kPrefix, 2, DriverWork::kCopy},
    {"block_copy_begin_push", Match::kPrefix, 2, DriverWork::kCopy},
    {"block_copy_end_push", Match::kPrefix, 2, DriverWork::kCopy},
    {"uvm_va_block_make_resident", Match::kPrefix, 2, DriverWork::kCopy},
    {"conf_computing_block_copy", Match::kPrefix, 2, DriverWork::kCopy},
    {"_ce_memcopy", Match::kSubstring, 2, DriverWork::kCopy},

    // The CPU's page tables (uvm_va_block.c; mm/memory.c, arch/*/mm/tlb.c, kernel/smp.c).
    {"unmap_mapping_", Match::kPrefix, 2, DriverWork::kCpuUnmap},
    {"block_unmap_cpu", Match::kPrefix, 2, DriverWork::kCpuUnmap},
    {"block_unmap_phys_cpu", Match::kPrefix, 2, DriverWork::kPopulation},
    {"zap_", Match::kPrefix, 2, DriverWork::kCpuUnmap},
    {"unmap_page_range", Match::kPrefix, 2, DriverWork::kCpuUnmap},
    {"flush_tlb_", Match::kPrefix, 2, DriverWork::kCpuUnmap},
    {"native_flush_tlb_", Match::kPrefix, 2, DriverWork::kCpuUnmap},
    {"tlb_finish_mmu", Match::kPrefix, 2, DriverWork::kCpuUnmap},
    {"tlb_flush_mmu", Match::kPrefix, 2, DriverWork::kCpuUnmap},
    {"smp_call_function", Match::kPrefix, 2, DriverWork::kCpuUnmap},
    {"on_each_cpu", Match::kPrefix, 2, DriverWork::kCpuUnmap},

    // Pages and their DMA addresses (uvm_va_block.c, uvm_pmm_sysmem.c, uvm_pmm_gpu.c; mm/page_alloc.c, drivers/iommu).
    {"block_gpu_map_phys_all_cpu_pages", Match::kPrefix, 2, DriverWork::kPopulation},
    {"block_map_phys_cpu", Match::kPrefix, 2, DriverWork::kPopulation},
    {"uvm_parent_gpu_map_cpu_page", Match::kPrefix, 2, DriverWork::kPopulation},
    {"uvm_gpu_map_cpu_page", Match::kPrefix, 2, DriverWork::kPopulation},
    {"uvm_va_block_gpu_state_get_alloc", Match::kPrefix, 2, DriverWork::kPopulation},
    {"block_gpu_state_get_alloc", Match::kPrefix, 2, DriverWork::kPopulation},
    {"block_populate", Match::kPrefix, 2, DriverWork::kPopulation},
    {"block_alloc_", Match::kPrefix, 2, DriverWork::kPopulation},
    {"block_zero_new_gpu_chunk", Match::kPrefix, 2, DriverWork::kPopulation},
    {"uvm_cpu_chunk_", Match::kPrefix, 2, DriverWork::kPopulation},
    {"uvm_pmm_sysmem_", Match::kPrefix, 2, DriverWork::kPopulation},
    {"uvm_pmm_gpu_alloc", Match::kPrefix, 2, DriverWork::kPopulation},
    {"dma_map_", Match::kPrefix, 2, DriverWork::kPopulation},
    {"dma_direct_map", Match::kPrefix, 2, DriverWork::kPopulation},
    {"iommu_", Match::kPrefix, 2, DriverWork::kPopulation},
    {"swiotlb_", Match::kPrefix, 2, DriverWork::kPopulation},
    {"alloc_pages", Match::kPrefix, 2, DriverWork::kPopulation},
    {"__alloc_pages", Match::kPrefix, 2, DriverWork::kPopulation},
    {"clear_page", Match::kPrefix, 2, DriverWork::kPopulation},

    // The GPU's page tables (uvm_va_block.c, uvm_mmu.c, uvm_pte_batch.c, uvm_tlb_batch.c).
    {"uvm_va_block_map", Match::kPrefix, 2, DriverWork::kGpuMapping},
    {"uvm_va_block_unmap", Match::kPrefix, 2, DriverWork::kGpuMapping},
    {"uvm_va_block_revoke", Match::kPrefix, 2, DriverWork::kGpuMapping},
    {"uvm_va_block_service_finish", Match::kPrefix, 2, DriverWork::kGpuMapping},
    {"uvm_va_block_add_mappings", Match::kPrefix, 2, DriverWork::kGpuMapping},
    {"block_map_gpu", Match::kPrefix, 2, DriverWork::kGpuMapping},
    {"block_unmap_gpu", Match::kPrefix, 2, DriverWork::kGpuMapping},
    {"block_gpu_pte_", Match::kPrefix, 2, DriverWork::kGpuMapping},
    {"block_gpu_map_", Match::kPrefix, 2, DriverWork::kGpuMapping},
    {"block_gpu_unmap_", Match::kPrefix, 2, DriverWork::kGpuMapping},
    {"uvm_page_t", Match::kPrefix, 2, DriverWork::kGpuMapping},
    {"uvm_pte_batch", Match::kPrefix, 2, DriverWork::kGpuMapping},
    {"uvm_tlb_batch", Match::kPrefix, 2, DriverWork::kGpuMapping},
    {"_tlb_invalidate", Match::kSubstring, 2, DriverWork::kGpuMapping},

    // The service loop (uvm_gpu_replayable_faults.c).
    {"fetch_fault_buffer_entries", Match::kPrefix, 2, DriverWork::kFaultFetch},
    {"fault_buffer_skip", Match::kPrefix, 2, DriverWork::kFaultFetch},
    {"fetch_fault_buffer_merge_entry", Match::kPrefix, 2, DriverWork::kFaultFetch},
    {"_fault_buffer_parse", Match::kSubstring, 2, DriverWork::kFaultFetch},
    {"_fault_buffer_read", Match::kSubstring, 2, DriverWork::kFaultFetch},
    {"_fault_buffer_entry_is_valid", Match::kSubstring, 2, DriverWork::kFaultFetch},
    {"parse_fault_entry", Match::kPrefix, 2, DriverWork::kFaultFetch},
    {"preprocess_fault_batch", Match::kPrefix, 2, DriverWork::kPreprocess},
    {"translate_instance_ptrs", Match::kPrefix, 2, DriverWork::kPreprocess},
    {"cmp_sort_fault_entry", Match::kPrefix, 2, DriverWork::kPreprocess},
    {"cmp_fault_instance_ptr", Match::kPrefix, 2, DriverWork::kPreprocess},
    {"push_replay_on", Match::kPrefix, 2, DriverWork::kReplay},
    {"fault_buffer_flush", Match::kPrefix, 2, DriverWork::kReplay},
    {"hw_fault_buffer_flush", Match::kPrefix, 2, DriverWork::kReplay},
    {"_replay_faults", Match::kSubstring, 2, DriverWork::kReplay},
    {"cancel_fault", Match::kPrefix, 2, DriverWork::kReplay},
    {"push_cancel_on", Match::kPrefix, 2, DriverWork::kReplay},

    // Where pages should go (uvm_perf_*.c, uvm_va_block.c).
    {"uvm_perf_prefetch", Match::kPrefix, 2, DriverWork::kPolicy},
    {"uvm_perf_thrashing", Match::kPrefix, 2, DriverWork::kPolicy},
    {"compute_prefetch", Match::kPrefix, 2, DriverWork::kPolicy},
    {"grow_fault_granularity", Match::kPrefix, 2, DriverWork::kPolicy},
    {"uvm_va_block_select_residency", Match::kPrefix, 2, DriverWork::kPolicy},
    {"block_select_", Match::kPrefix, 2, DriverWork::kPolicy},
    {"uvm_va_policy_", Match::kPrefix, 2, DriverWork::kPolicy},

    // ATS and HMM (uvm_ats_faults.c, uvm_migrate_pageable.c, uvm_hmm.c; mm/migrate_device.c).
    {"service_fault_batch_ats", Match::kPrefix, 3, DriverWork::kSystemMemory},
    {"uvm_ats_service", Match::kPrefix, 3, DriverWork::kSystemMemory},
    {"uvm_migrate_pageable", Match::kPrefix, 3, DriverWork::kSystemMemory},
    {"migrate_vma_", Match::kPrefix, 3, DriverWork::kSystemMemory},
    {"uvm_hmm_", Match::kPrefix, 2, DriverWork::kSystemMemory},

    // The frames that everything above stands on.
    {"replayable_faults_isr_bottom_half", Match::kPrefix, 1, DriverWork::kOther},
    {"non_replayable_faults_isr_bottom_half", Match::kPrefix, 1, DriverWork::kOther},
    {"uvm_parent_gpu_service_", Match::kPrefix, 1, DriverWork::kOther},
    {"uvm_gpu_service_", Match::kPrefix, 1, DriverWork::kOther},
    {"service_fault_batch", Match::kPrefix, 1, DriverWork::kOther},
    {"service_non_", Match::kPrefix, 1, DriverWork::kOther},
    {"uvm_va_block_service", Match::kPrefix, 1, DriverWork::kOther},
    {"uvm_va_block_", Match::kPrefix, 1, DriverWork::kOther},
    {"block_", Match::kPrefix, 1, DriverWork::kOther},
    {"uvm_", Match::kPrefix, 1, DriverWork::kOther},
};

constexpr std::array<std::string_view, 4> kWaits = {"uvm_tracker_wait", "uvm_spin_loop", "uvm_push_wait",
                                                    "uvm_channel_update_progress"};
// Frames of the service loop: a wait whose nearest other frame is one of these is the loop's own.
constexpr std::array<std::string_view, 3> kLoop = {"uvm_parent_gpu_service_replayable_faults",
                                                   "uvm_gpu_service_replayable_faults",
                                                   "replayable_faults_isr_bottom_half"};

bool StartsWith(std::string_view text, std::string_view prefix) { return text.substr(0, prefix.size()) == prefix; }

template <size_t kSize>
bool StartsWithAny(std::string_view text, const std::array<std::string_view, kSize>& prefixes) {
  for (const std::string_view prefix : prefixes) {
    if (StartsWith(text, prefix)) return true;
  }
  return false;
}

// "block_unmap_cpu.isra.0 [nvidia_uvm]" -> "block_unmap_cpu"
std::string_view PlainName(std::string_view name) { return name.substr(0, name.find_first_of(". +")); }

const Rule* RuleOf(std::string_view name) {
  for (const Rule& rule : kRules) {
    const bool matches = rule.match == Match::kExact    ? name == rule.name
                         : rule.match == Match::kPrefix ? StartsWith(name, rule.name)
                                                        : name.find(rule.name) != std::string_view::npos;
    if (matches) return &rule;
  }
  return nullptr;
}

}  // namespace

std::string_view DriverWorkName(DriverWork work) {
  static constexpr std::array<std::string_view, kDriverWorkCount> kNames = {
      "copy",     "cpu_unmap", "population",    "gpu_mapping",     "fault_fetch", "preprocess", "replay", "gpu_wait",
      "eviction", "policy",    "system_memory", "access_counters", "tools",       "other",      "unknown"};
  return kNames[static_cast<size_t>(work)];
}

DriverWork ClassifyStack(const std::vector<std::string_view>& frames) {
  const Rule* best = nullptr;
  bool waits = false;
  std::string_view waits_in;  // the function around the wait
  for (const std::string_view frame : frames) {
    const std::string_view name = PlainName(frame);
    if (StartsWithAny(name, kWaits)) {
      waits = true;
      continue;
    }
    const Rule* rule = RuleOf(name);
    if (waits && waits_in.empty() && rule != nullptr) waits_in = name;
    if (rule != nullptr && (best == nullptr || rule->rank > best->rank)) best = rule;
  }
  if (best == nullptr) return DriverWork::kUnknown;
  if (waits && best->rank <= 1 && StartsWithAny(waits_in, kLoop)) return DriverWork::kGpuWait;
  return best->work;
}

}  // namespace uvmtrace::analyzer
