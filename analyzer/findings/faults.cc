// Three definitions of a fault side by side, the batches that the driver made of them, and the faults that have a name:
// those of CPU code, and those that could not be served.
#include <fmt/format.h>

#include <algorithm>
#include <tuple>
#include <vector>

#include "analyzer/findings/call_site.h"
#include "analyzer/findings/sections.h"

namespace uvmtrace::analyzer {
namespace {

void SetBatches(const GpuSums& gpu, FaultCounts* counts) {
  const BatchStatistics& queue = gpu.queue;
  if (queue.batches == 0) return;
  counts->set_entries_per_batch(static_cast<double>(queue.entries) / static_cast<double>(queue.batches));
  counts->set_batch_entries_p50(queue.sizes.Quantile(0.50));
  counts->set_batch_entries_p99(queue.sizes.Quantile(0.99));
  counts->set_batch_entries_max(queue.sizes.maximum());
  size_t used = 0;
  for (size_t i = 0; i < BatchStatistics::kSizeBuckets; ++i) used = queue.size_buckets[i] > 0 ? i + 1 : used;
  for (size_t i = 0; i < used; ++i) {
    HistogramBucket* bucket = counts->add_batch_entries();
    // The very last bucket has everything above the one before it.
    const bool open_ended = i + 1 == BatchStatistics::kSizeBuckets;
    bucket->set_up_to(open_ended ? queue.sizes.maximum() : uint64_t{1} << i);
    bucket->set_count(queue.size_buckets[i]);
  }
  counts->set_replays(queue.replays);
  counts->set_batches_without_replay(queue.without_replay);
  if (queue.service_ns.count() == 0) return;
  counts->set_service_p50_ns(queue.service_ns.Quantile(0.50));
  counts->set_service_p99_ns(queue.service_ns.Quantile(0.99));
  counts->set_service_max_ns(queue.service_ns.maximum());
}

void SetCounts(const GpuSums& gpu, const Knowledge& known, bool coalesced_known, FaultCounts* counts) {
  if (known.fault_entries) counts->set_entries(gpu.fault_entries);
  if (coalesced_known) counts->set_coalesced_faults(gpu.coalesced_faults);
  if (known.fault_groups) {
    counts->set_fault_groups(gpu.fault_groups);
    counts->set_fault_records(gpu.fault_records);
  }
  // Where a part of the entries was lost, the driver may have counted more faults than there are entries here.
  if (known.fault_entries && coalesced_known && gpu.fault_entries > 0 && gpu.coalesced_faults <= gpu.fault_entries) {
    counts->set_duplicates_ratio(1 -
                                 static_cast<double>(gpu.coalesced_faults) / static_cast<double>(gpu.fault_entries));
  }
  if (known.gpu_faults()) {
    counts->set_batches(gpu.batches);
    if (known.gpu_waits()) counts->set_service_ns(gpu.service_ns);
  }
  if (!known.fault_entries) return;
  const auto of = [&gpu](Access access) { return gpu.accesses[static_cast<size_t>(access)]; };
  counts->set_reads(of(Access::kRead));
  counts->set_writes(of(Access::kWrite));
  counts->set_atomics(of(Access::kAtomic));
  counts->set_prefetches(of(Access::kPrefetch));
  if (of(Access::kUnknown) > 0) counts->set_unknown_accesses(of(Access::kUnknown));
  SetBatches(gpu, counts);
}

bool HasAny(const GpuSums& gpu) {
  return (gpu.fault_entries | gpu.fault_groups | gpu.fault_records | gpu.coalesced_faults) != 0;
}

// The mapping that an instruction was in. Faults carry no order relative to mappings, so the newest one is taken.
const MappingDefinition* FindMapping(const ProcessModel& process, uint64_t pc) {
  for (size_t i = process.mappings.size(); i-- > 0;) {
    if (pc >= process.mappings[i].start && pc < process.mappings[i].end) return &process.mappings[i];
  }
  return nullptr;
}

}  // namespace

std::string SiteOfInstruction(const ProcessModel& process, uint64_t pc, Symbolizer* symbolizer) {
  if (pc == 0) return "(instruction not known)";
  // Half of the address space is the kernel's: a system call that touched the memory for the program.
  if (pc >> 63 != 0) return "(in the kernel: a system call was given managed memory)";
  const MappingDefinition* mapping = FindMapping(process, pc);
  if (mapping == nullptr) return fmt::format("{:#x}", pc);
  // Resolve takes a return address, which is one past the call.
  const SymbolFrame frame = symbolizer->Resolve(*mapping, pc + 1).front();
  if (frame.function.empty()) return fmt::format("{}+{:#x}", frame.module, pc - mapping->load_bias);
  if (frame.file.empty()) return fmt::format("{} ({})", frame.function, frame.module);
  return fmt::format("{} ({}:{})", frame.function, frame.file.substr(frame.file.rfind('/') + 1), frame.line);
}

namespace {

// What of the driver's UvmEventFatalReason to tell a person.
std::string FatalReason(uint32_t reason) {
  switch (reason) {
    case 1:
      return "invalid address (nothing is allocated there, or not any more)";
    case 2:
      return "invalid permissions (the memory may not be accessed in this way)";
    case 3:
      return "invalid fault type";
    case 4:
      return "out of memory (the driver found none for the page)";
    case 5:
      return "internal error of the driver";
    case 6:
      return "invalid operation (not allowed while a kernel runs, or in this place)";
    default:
      return fmt::format("reason {} of the driver", reason);
  }
}

}  // namespace

void AddFaultDefinitions(const Run& run, const Knowledge& known, Report* report) {
  const std::map<std::string, GpuSums> gpus = SumByGpu(run);
  GpuSums all;
  for (const auto& [key, gpu] : gpus) {
    all.batches += gpu.batches;
    all.fault_groups += gpu.fault_groups;
    all.fault_records += gpu.fault_records;
    all.fault_entries += gpu.fault_entries;
    all.service_ns += gpu.service_ns;
    for (size_t i = 0; i < kAccessCount; ++i) all.accesses[i] += gpu.accesses[i];
    all.queue.Merge(gpu.queue);
  }
  const ExactSums exact = SumExactCounters(run);
  const bool coalesced_known = exact.known && exact.all_processes;
  all.coalesced_faults = exact.counters.gpu_faults;
  if (!known.gpu_faults() && !coalesced_known) {
    AddEmptySection("fault_definitions", WhyNoUnifiedMemoryEvents(run, "cupti.gpu_page_faults"), report);
    return;
  }
  if (!HasAny(all)) {
    AddEmptySection("fault_definitions", "no GPU fault happened", report);
    return;
  }
  FaultDefinitions* definitions = report->mutable_fault_definitions();
  SetCounts(all, known, coalesced_known, definitions->mutable_all());
  for (const auto& [key, gpu] : gpus) {
    if (!HasAny(gpu)) continue;
    FaultCounts* counts = definitions->add_devices();
    const std::string uuid = FormatUuid(key);
    counts->set_device(!uuid.empty() ? uuid : key.rfind("ordinal -", 0) == 0 ? "unknown GPU" : "GPU " + key.substr(8));
    SetCounts(gpu, known, gpu.counters && coalesced_known, counts);
  }
}

void AddCpuFaultSites(const Run& run, const Knowledge& known, const ReportOptions& options, Symbolizer* symbolizer,
                      Report* report) {
  struct Sum {
    uint64_t faults = 0;
    uint64_t instructions = 0;
  };
  // Instructions are many: only the busiest are given a name, the rest is summed up.
  struct Site {
    uint64_t pc;
    uint32_t tid;
  };
  struct Candidate {
    const ProcessModel* process;
    Site site;
    uint64_t faults;
  };
  constexpr size_t kMaximumNamed = 4096;
  std::vector<Candidate> candidates;
  uint64_t others = 0;
  bool queue = false;
  for (const auto& process : run) {
    queue |= QueueIsOn(*process);
    others += process->cpu_fault_sites.others();
    // Whose memory it was is another table's question.
    std::map<std::pair<uint64_t, uint32_t>, uint64_t> by_code;
    for (const auto& [site, faults] : process->cpu_fault_sites.faults()) by_code[{site.pc, site.tid}] += faults;
    for (const auto& [code, faults] : by_code) candidates.push_back({process.get(), {code.first, code.second}, faults});
  }
  if (candidates.empty()) {
    AddEmptySection("cpu_fault_sites",
                    queue               ? "no CPU fault happened"
                    : !known.cpu_faults ? WhyNoUnifiedMemoryEvents(run, "cupti.cpu_page_faults")
                                        : "CUPTI does not tell which code a CPU fault came from; the driver's event "
                                          "queue does, where it can be used",
                    report);
    return;
  }
  std::sort(candidates.begin(), candidates.end(), [](const Candidate& a, const Candidate& b) {
    return std::tuple(b.faults, a.process->file, a.site.pc, a.site.tid) <
           std::tuple(a.faults, b.process->file, b.site.pc, b.site.tid);
  });
  std::map<std::tuple<const ProcessModel*, std::string, uint32_t>, Sum> sites;
  for (size_t i = 0; i < candidates.size(); ++i) {
    const Candidate& one = candidates[i];
    if (i >= kMaximumNamed) {
      others += one.faults;
      continue;
    }
    Sum& sum = sites[{one.process, SiteOfInstruction(*one.process, one.site.pc, symbolizer), one.site.tid}];
    sum.faults += one.faults;
    ++sum.instructions;
  }
  using Entry = decltype(sites)::const_pointer;
  std::vector<Entry> order;
  for (const auto& entry : sites) order.push_back(&entry);
  std::stable_sort(order.begin(), order.end(), [](Entry a, Entry b) {
    return std::tuple(b->second.faults, std::get<1>(a->first), std::get<2>(a->first)) <
           std::tuple(a->second.faults, std::get<1>(b->first), std::get<2>(b->first));
  });
  for (size_t i = 0; i < order.size(); ++i) {
    const auto& [process, site, tid] = order[i]->first;
    if (options.top > 0 && i >= options.top) {
      others += order[i]->second.faults;
      continue;
    }
    CpuFaultSiteRow* row = report->add_cpu_fault_sites();
    row->set_site(site);
    row->set_faults(order[i]->second.faults);
    row->set_instructions(order[i]->second.instructions);
    if (tid != 0) row->set_tid(tid);
    const auto name = process->thread_names.find(tid);
    if (name != process->thread_names.end()) row->set_thread(name->second);
    if (run.size() > 1 && process->process) row->set_pid(process->process->pid);
  }
  if (others == 0) return;
  CpuFaultSiteRow* row = report->add_cpu_fault_sites();
  row->set_site("(other sites)");
  row->set_faults(others);
}

void AddFatalFaults(const Run& run, Symbolizer* symbolizer, Report* report) {
  for (const auto& process : run) {
    for (const FatalFault& fault : process->fatal_faults) {
      FatalFaultRow* row = report->add_fatal_faults();
      const uint64_t started_ns = process->process ? process->process->started_ns : 0;
      if (fault.time_ns >= started_ns) row->set_time_ns(fault.time_ns - started_ns);
      row->set_address(fault.address);
      row->set_reason(FatalReason(fault.reason));
      if (fault.device == kCpu) row->set_processor("CPU");
      if (fault.device >= 0) row->set_processor(fmt::format("GPU {}", fault.device));
      if (run.size() > 1 && process->process) row->set_pid(process->process->pid);
      if (!fault.known_memory) continue;
      const uint32_t site = process->SiteOfAccount(fault.account);
      row->set_kind(MemoryKindName(process->memory.table().sites()[site].kind));
      row->set_site(ResolveCallSite(*process, process->StackOfAccount(fault.account), symbolizer).site);
    }
  }
}

}  // namespace uvmtrace::analyzer
