// Whose memory it was, by the line that allocated it, and what is joined to it: calls, kernels, CPU code, call paths.
//
// Allocations were folded by kind and stack while the trace was read. Here stacks get names, and those that are the
// same call path by function and file become one row, whatever process or run they come from. The rows add up to the
// totals.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <tuple>
#include <vector>

#include "analyzer/findings/call_site.h"
#include "analyzer/findings/estimate.h"
#include "analyzer/findings/sections.h"
#include "analyzer/findings/site_names.h"

namespace uvmtrace::analyzer {
namespace {

struct SiteSums {
  SiteMemory memory;  // without kind and stack
  MemoryActivity activity;
  uint64_t touched_blocks = 0;
  bool estimated = false;
  std::set<const ProcessModel*> processes;
};

uint64_t Importance(const SiteSums& sums) {
  return sums.activity.moved_bytes() +
         4096 * (sums.activity.gpu_fault_entries + sums.activity.gpu_fault_records + sums.activity.cpu_faults);
}

void AddMemory(const SiteMemory& part, SiteMemory* sum) {
  sum->allocations += part.allocations;
  sum->frees += part.frees;
  sum->total_bytes += part.total_bytes;
  sum->live_bytes += part.live_bytes;
  // Of several stacks the peaks may lie apart: the sum is what they can have held at most.
  sum->peak_bytes += part.peak_bytes;
  sum->live_allocations += part.live_allocations;
  sum->blocks += part.blocks;
  sum->call_ns += part.call_ns;
}

// Physical memory is created by one call and mapped by another; no call makes system memory.
bool CallsTellTheirTime(MemoryKind kind) {
  return kind != MemoryKind::kPhysical && kind != MemoryKind::kImported && kind != MemoryKind::kSystem;
}

std::string PatternOf(const SiteSums& sums, double touched_share) {
  const MemoryActivity& activity = sums.activity;
  const uint64_t faults = activity.gpu_fault_entries + activity.gpu_fault_records + activity.cpu_faults;
  if (faults + activity.moved_bytes() == 0) return "";
  std::string pattern = touched_share >= 0.9 ? "whole" : touched_share >= 0.25 ? "in part" : "sparse";
  const uint64_t back = activity.refaulted_after[static_cast<size_t>(LeftBecause::kTouch)];
  if (back * 2 >= activity.host_to_device_bytes && back > 0) pattern += ", in turn with the CPU";
  const double size = touched_share * static_cast<double>(sums.memory.total_bytes);
  if (size > 0 && static_cast<double>(activity.host_to_device_bytes) >= 1.5 * size)
    pattern += fmt::format(", {:.1f} times", static_cast<double>(activity.host_to_device_bytes) / size);
  return pattern;
}

void SetActivity(const MemoryActivity& activity, const Knowledge& known, SiteRow* row) {
  if (known.host_to_device) row->set_host_to_device_bytes(activity.host_to_device_bytes);
  if (known.device_to_host) row->set_device_to_host_bytes(activity.device_to_host_bytes);
  if (known.device_to_device) row->set_device_to_device_bytes(activity.device_to_device_bytes);
  if (known.device_to_host) row->set_evicted_bytes(activity.evicted_bytes);
  if (known.refaults()) {
    const auto after = [&](LeftBecause because) { return activity.refaulted_after[static_cast<size_t>(because)]; };
    row->set_refaulted_bytes(activity.refaulted_bytes);
    row->set_refaulted_after_eviction_bytes(after(LeftBecause::kEviction));
    row->set_refaulted_after_call_bytes(after(LeftBecause::kCall));
    row->set_refaulted_after_cpu_bytes(after(LeftBecause::kTouch));
  }
  if (known.host_to_device) {
    row->set_prefetched_bytes(activity.prefetched_bytes);
    row->set_faulted_bytes(activity.faulted_bytes);
  }
  if (known.fault_entries) {
    row->set_gpu_fault_entries(activity.gpu_fault_entries);
    row->set_reads(activity.accesses[static_cast<size_t>(Access::kRead)]);
    row->set_writes(activity.accesses[static_cast<size_t>(Access::kWrite)]);
    row->set_atomics(activity.accesses[static_cast<size_t>(Access::kAtomic)]);
  }
  if (known.fault_groups) row->set_gpu_fault_groups(activity.gpu_fault_groups);
  if (known.cpu_faults) row->set_cpu_faults(activity.cpu_faults);
  if (known.gpu_waits()) row->set_gpu_waited_ns(RoundToBytes(activity.gpu_waited_ns));
  if (known.remote_map) row->set_remote_mapped_bytes(activity.remote_mapped_bytes);
}

struct KernelUse {
  MemoryActivity activity;
};

using KernelUses = std::map<std::pair<std::string, std::string>, KernelUse>;  // by kernel and site key

KernelUses UsesByKernel(const Run& run, const SiteNames& names) {
  KernelUses uses;
  for (const auto& process : run) {
    for (const Cells::Entry* cell : process->cells.Sorted()) {
      const std::vector<uint32_t>& kernels = process->timeline.kernel_sets.names(cell->key.kernels);
      if (kernels.empty()) continue;
      const MemoryActivity& all = cell->activity;
      if ((all.gpu_fault_entries | all.gpu_fault_records | all.faulted_bytes) == 0) continue;
      const std::string& key = names.KeyOf(*process, process->SiteOfAccount(cell->key.account));
      for (size_t i = 0; i < kernels.size(); ++i)
        uses[{NameOfKernel(*process, kernels[i]), key}].activity.Add(PartOf(all, i, kernels.size()));
    }
  }
  return uses;
}

void AddKernelSites(const KernelUses& uses, const SiteNames& names, const Knowledge& known, size_t top,
                    Report* report) {
  std::vector<KernelUses::const_pointer> order;
  for (const auto& use : uses) order.push_back(&use);
  std::stable_sort(order.begin(), order.end(), [](auto a, auto b) {
    const auto faults = [](auto use) {
      return use->second.activity.gpu_fault_entries + use->second.activity.gpu_fault_groups;
    };
    return faults(a) > faults(b);
  });
  if (top > 0 && order.size() > 4 * top) order.resize(4 * top);
  for (const auto* use : order) {
    const MemoryActivity& activity = use->second.activity;
    KernelSiteRow* row = report->add_kernel_sites();
    row->set_kernel(use->first.first);
    row->set_target(use->first.second);
    row->set_target_site(names.SiteOfKey(use->first.second));
    if (known.fault_entries) {
      row->set_gpu_fault_entries(activity.gpu_fault_entries);
      row->set_reads(activity.accesses[static_cast<size_t>(Access::kRead)]);
      row->set_writes(activity.accesses[static_cast<size_t>(Access::kWrite)]);
      row->set_atomics(activity.accesses[static_cast<size_t>(Access::kAtomic)]);
      row->set_prefetches(activity.accesses[static_cast<size_t>(Access::kPrefetch)]);
    }
    if (known.fault_groups) row->set_gpu_fault_groups(activity.gpu_fault_groups);
    if (known.gpu_waits()) row->set_gpu_waited_ns(RoundToBytes(activity.gpu_waited_ns));
    if (known.host_to_device) row->set_host_to_device_bytes(activity.faulted_bytes);
  }
}

void AddPaths(const std::vector<std::pair<const SiteNames::Named*, const SiteSums*>>& sites, const Knowledge& known,
              Report* report) {
  constexpr uint32_t kMaximumPaths = 4096;
  struct Node {
    MemoryActivity activity;
    uint64_t bytes = 0;
    uint64_t allocations = 0;
    uint32_t parent = 0;
    std::string frame;
  };
  std::vector<Node> nodes(1);
  std::map<std::pair<uint32_t, std::string>, uint32_t> children;
  for (const auto& [named, sums] : sites) {
    uint32_t at = 0;
    for (auto frame = named->stack.rbegin(); frame != named->stack.rend(); ++frame) {
      auto child = children.find({at, *frame});
      if (child == children.end()) {
        if (nodes.size() > kMaximumPaths) break;
        child = children.emplace(std::pair(at, *frame), static_cast<uint32_t>(nodes.size())).first;
        nodes.emplace_back();
        nodes.back().parent = at;
        nodes.back().frame = *frame;
      }
      at = child->second;
      nodes[at].activity.Add(sums->activity);
      nodes[at].bytes += sums->memory.total_bytes;
      nodes[at].allocations += sums->memory.allocations;
    }
  }
  for (uint32_t id = 1; id < nodes.size(); ++id) {
    const Node& node = nodes[id];
    PathRow* row = report->add_paths();
    row->set_id(id);
    row->set_parent(node.parent);
    row->set_frame(node.frame);
    row->set_bytes(node.bytes);
    row->set_allocations(node.allocations);
    if (known.host_to_device) row->set_host_to_device_bytes(node.activity.host_to_device_bytes);
    if (known.device_to_host) row->set_device_to_host_bytes(node.activity.device_to_host_bytes);
    if (known.fault_entries) row->set_gpu_fault_entries(node.activity.gpu_fault_entries);
    if (known.gpu_waits()) row->set_gpu_waited_ns(RoundToBytes(node.activity.gpu_waited_ns));
  }
}

void AddSharedPages(const Run& run, const SiteNames& names, Report* report) {
  struct Used {
    const ProcessModel* process;
    size_t index;
  };
  std::vector<Used> used;
  for (const auto& process : run) {
    for (size_t i = 0; i < process->shared_pages.size(); ++i) {
      const SharedPageSums& sums = process->shared_pages[i];
      if ((sums.gpu_faults | sums.cpu_faults | sums.bytes) != 0) used.push_back({process.get(), i});
    }
  }
  const auto busy = [](const Used& one) {
    const SharedPageSums& sums = one.process->shared_pages[one.index];
    return sums.bytes + 4096 * (sums.gpu_faults + sums.cpu_faults);
  };
  std::stable_sort(used.begin(), used.end(), [&](const Used& a, const Used& b) { return busy(a) > busy(b); });
  if (used.size() > 20) used.resize(20);
  for (const Used& one : used) {
    const SharedPageSums& sums = one.process->shared_pages[one.index];
    const SharedPages::Page& page = one.process->timeline.shared_pages.pages()[one.index];
    SharedPageRow* row = report->add_shared_pages();
    row->set_address(page.address);
    for (const uint32_t site : page.sites) {
      const std::string& key = names.KeyOf(*one.process, site);
      row->add_keys(key);
      row->add_sites(names.SiteOfKey(key));
    }
    row->set_gpu_fault_entries(sums.gpu_faults);
    row->set_cpu_faults(sums.cpu_faults);
    row->set_bytes(sums.bytes);
  }
}

void AddCpuFaultTargets(const Run& run, const SiteNames& names, Symbolizer* symbolizer, size_t top, Report* report) {
  constexpr size_t kMaximumNamed = 4096;
  struct Sum {
    uint64_t faults = 0;
    std::string thread;
  };
  std::map<std::tuple<std::string, std::string, uint32_t>, Sum> targets;
  for (const auto& process : run) {
    std::vector<std::pair<CpuFaultSites::Site, uint64_t>> sites(process->cpu_fault_sites.faults().begin(),
                                                                process->cpu_fault_sites.faults().end());
    std::sort(sites.begin(), sites.end(), [](const auto& a, const auto& b) {
      return std::tuple(b.second, a.first.pc, a.first.tid, a.first.account) <
             std::tuple(a.second, b.first.pc, b.first.tid, b.first.account);
    });
    if (sites.size() > kMaximumNamed) sites.resize(kMaximumNamed);
    for (const auto& [site, faults] : sites) {
      Sum& sum = targets[{SiteOfInstruction(*process, site.pc, symbolizer),
                          names.KeyOf(*process, process->SiteOfAccount(site.account)), site.tid}];
      sum.faults += faults;
      const auto thread = process->thread_names.find(site.tid);
      if (thread != process->thread_names.end()) sum.thread = thread->second;
    }
  }
  std::vector<decltype(targets)::const_pointer> order;
  for (const auto& target : targets) order.push_back(&target);
  std::stable_sort(order.begin(), order.end(), [](auto a, auto b) { return a->second.faults > b->second.faults; });
  if (top > 0 && order.size() > 2 * top) order.resize(2 * top);
  for (const auto* target : order) {
    CpuFaultTargetRow* row = report->add_cpu_fault_targets();
    row->set_site(std::get<0>(target->first));
    row->set_target(std::get<1>(target->first));
    row->set_target_site(names.SiteOfKey(std::get<1>(target->first)));
    if (std::get<2>(target->first) != 0) row->set_tid(std::get<2>(target->first));
    if (!target->second.thread.empty()) row->set_thread(target->second.thread);
    row->set_faults(target->second.faults);
  }
}

// The totals are the driver's own counters where these are known. What no row holds has a row as well.
void AddNotRecorded(Report* report) {
  uint64_t to_device = report->totals().host_to_device_bytes();
  uint64_t to_host = report->totals().device_to_host_bytes();
  uint64_t cpu_faults = report->totals().cpu_faults();
  for (const SiteRow& row : report->sites()) {
    to_device -= std::min(to_device, row.host_to_device_bytes());
    to_host -= std::min(to_host, row.device_to_host_bytes());
    cpu_faults -= std::min(cpu_faults, row.cpu_faults());
  }
  if ((to_device | to_host | cpu_faults) == 0) return;
  SiteRow* row = report->add_sites();
  row->set_key(SiteNames::kNotRecorded);
  row->set_site("(not recorded)");
  if (to_device > 0) row->set_host_to_device_bytes(to_device);
  if (to_host > 0) row->set_device_to_host_bytes(to_host);
  if (cpu_faults > 0) row->set_cpu_faults(cpu_faults);
}

}  // namespace

void AddSites(const Run& run, const Knowledge& known, const ReportOptions& options, Symbolizer* symbolizer,
              Report* report) {
  const SiteNames names(run, symbolizer);
  std::map<std::string, SiteSums> by_key;
  MemoryActivity unattributed;
  bool unattributed_estimated = false;
  for (const auto& process : run) {
    const ProcessBytes bytes = BytesOfProcess(*process);
    ActivityScaler scaler(bytes);
    const SiteMemories& memories = process->memory.table().sites();
    for (uint32_t site = 0; site < memories.size(); ++site) {
      SiteSums& sums = by_key[names.KeyOf(*process, site)];
      AddMemory(memories[site], &sums.memory);
      sums.activity.Add(scaler.Scale(process->site_activity[site]));
      sums.touched_blocks += process->site_touched_blocks[site];
      sums.estimated |= process->site_activity[site].any_sampled();
      sums.processes.insert(process.get());
    }
    unattributed.Add(scaler.Scale(process->unattributed));
    unattributed_estimated |= process->unattributed.any_sampled();
    // Windows of a sample may have caught nothing of a direction: those bytes belong to no site that we know.
    unattributed.host_to_device_bytes += bytes.of(Direction::kHostToDevice).unsampled;
    unattributed.device_to_host_bytes += bytes.of(Direction::kDeviceToHost).unsampled;
  }
  std::vector<std::pair<const SiteNames::Named*, const SiteSums*>> order;
  for (const auto& [key, sums] : by_key) order.emplace_back(&names.NamedOf(key), &sums);
  std::stable_sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return std::pair(Importance(*a.second), a.second->memory.peak_bytes) >
           std::pair(Importance(*b.second), b.second->memory.peak_bytes);
  });
  const KernelUses uses = UsesByKernel(run, names);
  SiteSums rest;
  size_t shown = 0;
  for (const auto& [named, sums] : order) {
    if (named->key == SiteNames::kOthers || (options.top > 0 && shown >= options.top)) {
      AddMemory(sums->memory, &rest.memory);
      rest.activity.Add(sums->activity);
      rest.touched_blocks += sums->touched_blocks;
      rest.estimated |= sums->estimated;
      continue;
    }
    ++shown;
    SiteRow* row = report->add_sites();
    row->set_key(named->key);
    row->set_kind(MemoryKindName(named->kind));
    row->set_site(named->site);
    for (const std::string& frame : named->stack) row->add_stack(frame);
    if (!named->name.empty()) row->set_name(named->name);
    if (run.size() > 1 && sums->processes.size() == 1 && (*sums->processes.begin())->process)
      row->set_pid((*sums->processes.begin())->process->pid);
    row->set_allocations(sums->memory.allocations);
    row->set_frees(sums->memory.frees);
    row->set_total_bytes(sums->memory.total_bytes);
    row->set_peak_bytes(sums->memory.peak_bytes);
    row->set_live_bytes(sums->memory.live_bytes);
    row->set_live_allocations(sums->memory.live_allocations);
    if (CallsTellTheirTime(named->kind)) row->set_call_ns(sums->memory.call_ns);
    SetActivity(sums->activity, known, row);
    if (sums->estimated) row->set_estimated(true);
    const bool pageable = named->kind == MemoryKind::kManaged || named->kind == MemoryKind::kSystem;
    if (pageable && sums->memory.blocks > 0) {
      const double share =
          std::min(1.0, static_cast<double>(sums->touched_blocks) / static_cast<double>(sums->memory.blocks));
      row->set_touched_share(share);
      row->set_pattern(PatternOf(*sums, share));
    }
    std::vector<std::pair<uint64_t, std::string>> kernels;
    for (const auto& [use, what] : uses) {
      const uint64_t faults = what.activity.gpu_fault_entries + what.activity.gpu_fault_records;
      if (use.second == named->key && faults > 0) kernels.emplace_back(faults, use.first);
    }
    std::stable_sort(kernels.begin(), kernels.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
    for (size_t i = 0; i < kernels.size() && i < 8; ++i) row->add_kernels(kernels[i].second);
  }
  if (rest.memory.allocations > 0) {
    SiteRow* row = report->add_sites();
    row->set_key(SiteNames::kOthers);
    row->set_site("(other call sites)");
    row->set_allocations(rest.memory.allocations);
    row->set_frees(rest.memory.frees);
    row->set_total_bytes(rest.memory.total_bytes);
    row->set_live_bytes(rest.memory.live_bytes);
    row->set_live_allocations(rest.memory.live_allocations);
    SetActivity(rest.activity, known, row);
    if (rest.estimated) row->set_estimated(true);
  }
  if (unattributed.any()) {
    SiteRow* row = report->add_sites();
    row->set_key(SiteNames::kUnattributed);
    row->set_site("(no known allocation)");
    SetActivity(unattributed, known, row);
    if (unattributed_estimated) row->set_estimated(true);
  }
  if (report->sites_size() > 0 && !known.estimated) AddNotRecorded(report);
  if (report->sites_size() == 0) AddEmptySection("sites", "no allocation was recorded", report);
  AddCallSites(run, known, names, options, symbolizer, report);
  AddKernelSites(uses, names, known, options.top, report);
  AddCpuFaultTargets(run, names, symbolizer, options.top, report);
  AddPaths(order, known, report);
  AddSharedPages(run, names, report);
}

}  // namespace uvmtrace::analyzer
