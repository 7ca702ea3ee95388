// Failed allocations: what was asked for, what there was, and who held the rest at that moment.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "analyzer/findings/call_site.h"
#include "analyzer/findings/sections.h"
#include "analyzer/findings/site_names.h"
#include "analyzer/units.h"

namespace uvmtrace::analyzer {
namespace {

constexpr size_t kMaximumHolders = 64;

struct Held {
  uint64_t device = 0;  // on the GPU: device, physical and pool memory, with what pools reserve and do not use
  uint64_t managed = 0;
  uint64_t pool_unused = 0;
  uint64_t lost_in_pieces = 0;
};

Held SumUp(const FailedAllocation& failed, const MemoryAtFailure& record) {
  Held held;
  uint64_t pool = 0;
  for (const HeldMemory& memory : failed.held) {
    if (memory.kind == MemoryKind::kDevice || memory.kind == MemoryKind::kPhysical) held.device += memory.bytes;
    if (memory.kind == MemoryKind::kPool) pool += memory.bytes;
    if (memory.kind == MemoryKind::kManaged) held.managed += memory.bytes;
  }
  held.device += std::max(pool, record.pool_reserved_bytes);
  if (record.pool_reserved_bytes > record.pool_used_bytes)
    held.pool_unused = record.pool_reserved_bytes - record.pool_used_bytes;
  const uint64_t pieces_bytes = failed.small.pieces * SmallAllocations::kPieceBytes;
  if (pieces_bytes > failed.small.bytes) held.lost_in_pieces = pieces_bytes - failed.small.bytes;
  return held;
}

bool IsOfHost(const FailedAllocation& failed, const std::string& function) {
  return failed.call.kind == MemoryKind::kPinned || failed.call.kind == MemoryKind::kRegistered ||
         function.find("Host") != std::string::npos;
}

// A control group without a limit has one of 2^63 bytes.
bool HasGroupLimit(const MemoryAtFailure& record) {
  return record.group_limit_bytes > 0 && record.group_limit_bytes < uint64_t{1} << 60;
}

std::string CauseOnHost(const MemoryAtFailure& record) {
  const uint64_t left_in_group =
      record.group_limit_bytes > record.group_used_bytes ? record.group_limit_bytes - record.group_used_bytes : 0;
  if (HasGroupLimit(record) && left_in_group < record.bytes) {
    return fmt::format("The control group may use {} of host memory and used {}: {} were left",
                       FormatBytes(record.group_limit_bytes), FormatBytes(record.group_used_bytes),
                       FormatBytes(left_in_group));
  }
  if (record.host_available_bytes > 0 && record.host_available_bytes < record.bytes)
    return fmt::format("Only {} of host memory were available", FormatBytes(record.host_available_bytes));
  if (record.address_limit_bytes > 0) {
    return fmt::format(
        "The process's address space is limited to {} (ulimit -v): what it had mapped and this did not fit into that, "
        "though {} of host memory were available",
        FormatBytes(record.address_limit_bytes), FormatBytes(record.host_available_bytes));
  }
  if (record.lock_limit_bytes > 0 && record.lock_limit_bytes < record.bytes) {
    return fmt::format("The process may lock {} (ulimit -l), less than was asked for",
                       FormatBytes(record.lock_limit_bytes));
  }
  return record.host_available_bytes == 0
             ? std::string()
             : fmt::format("{} of host memory were available and no limit that the trace knows forbids it",
                           FormatBytes(record.host_available_bytes));
}

std::string CauseOnGpu(const MemoryAtFailure& record, const Held& held, const SmallAllocations& small,
                       uint64_t others_bytes) {
  if (record.total_bytes == 0) return {};
  const std::string free =
      fmt::format("{} of {} were free on the GPU", FormatBytes(record.free_bytes), FormatBytes(record.total_bytes));
  if (record.bytes > record.total_bytes) return free + ": the GPU has less than was asked for in all";
  if (record.bytes == 0) {
    return free + fmt::format(": what the call makes needs memory of the GPU too, and this process held {} of it",
                              FormatBytes(held.device));
  }
  if (record.bytes <= record.free_bytes) {
    return free + ", enough in all: there was no free piece of that size, or a limit that the trace does not know";
  }
  const uint64_t missing = record.bytes - record.free_bytes;
  std::string why;
  if (held.pool_unused >= missing) {
    why = fmt::format("pools reserved {} and used {} of it: what they did not use would have been enough",
                      FormatBytes(record.pool_reserved_bytes), FormatBytes(record.pool_used_bytes));
  } else if (held.lost_in_pieces >= missing) {
    why = fmt::format("{} allocations below {} hold {} and keep {} from being free, because they share pieces of {}",
                      FormatCount(small.allocations), FormatBytes(SmallAllocations::kPieceBytes),
                      FormatBytes(small.bytes), FormatBytes(small.pieces * SmallAllocations::kPieceBytes),
                      FormatBytes(SmallAllocations::kPieceBytes));
  } else if (others_bytes > held.device) {
    why = fmt::format("contexts, modules, libraries and other processes held {}, this process's allocations {}",
                      FormatBytes(others_bytes), FormatBytes(held.device));
  } else {
    why = fmt::format("this process's allocations held {}", FormatBytes(held.device));
  }
  const std::string fitting =
      record.free_bytes == 0 ? "" : fmt::format(". At most {} would have fitted", FormatBytes(record.free_bytes));
  return fmt::format("{}, {} too few: {}{}", free, FormatBytes(missing), why, fitting);
}

void AddHolders(const ProcessModel& process, const FailedAllocation& failed, Symbolizer* symbolizer,
                OutOfMemoryRow* row) {
  std::map<std::string, HolderRow> by_key;
  HolderRow rest;
  for (size_t i = 0; i < failed.held.size(); ++i) {
    const HeldMemory& memory = failed.held[i];
    if (i >= kMaximumHolders) {
      rest.set_bytes(rest.bytes() + memory.bytes);
      rest.set_allocations(rest.allocations() + memory.allocations);
      continue;
    }
    const CallSite site = ResolveCallSite(process, memory.stack, symbolizer);
    const std::string key = SiteKey(memory.kind, site, NameOfVariable(process, memory.stack));
    HolderRow& holder = by_key[key];
    holder.set_key(key);
    holder.set_kind(MemoryKindName(memory.kind));
    holder.set_site(site.site.empty() ? "(no call stack)" : site.site);
    holder.set_library(LibraryOf(process, memory.stack));
    holder.set_bytes(holder.bytes() + memory.bytes);
    holder.set_allocations(holder.allocations() + memory.allocations);
  }
  std::vector<const HolderRow*> order;
  for (const auto& [key, holder] : by_key) order.push_back(&holder);
  std::stable_sort(order.begin(), order.end(),
                   [](const HolderRow* a, const HolderRow* b) { return a->bytes() > b->bytes(); });
  for (const HolderRow* holder : order) *row->add_holders() = *holder;
  if (rest.allocations() == 0) return;
  rest.set_site("(other call sites)");
  *row->add_holders() = rest;
}

void AddFailure(const Run& run, const ProcessModel& process, const FailedAllocation& failed, Symbolizer* symbolizer,
                Report* report) {
  const MemoryCall& call = failed.call;
  const auto function = process.functions.find(call.function);
  OutOfMemoryRow* row = report->add_out_of_memory();
  row->set_function(function == process.functions.end() ? "?" : function->second.name);
  row->set_result(call.result);
  row->set_count(failed.count);
  const uint64_t started_ns = process.process ? process.process->started_ns : 0;
  if (call.start_ns >= started_ns) row->set_time_ns(call.start_ns - started_ns);
  if (run.size() > 1 && process.process) row->set_pid(process.process->pid);
  const CallSite site = ResolveCallSite(process, call.stack, symbolizer);
  row->set_site(site.site);
  for (const std::string& frame : site.stack) row->add_stack(frame);
  AddHolders(process, failed, symbolizer, row);
  const auto record = process.failed_allocations.RecordOf(call);
  if (call.bytes > 0 || (record && record->bytes > 0)) row->set_asked_bytes(record ? record->bytes : call.bytes);
  if (!record) return;
  const bool of_host = IsOfHost(failed, row->function());
  if (record->device >= 0) row->set_device(record->device);
  if (record->total_bytes > 0 && !of_host) {
    row->set_free_bytes(record->free_bytes);
    row->set_total_bytes(record->total_bytes);
  }
  if (record->host_available_bytes > 0 && of_host) row->set_host_available_bytes(record->host_available_bytes);
  if (HasGroupLimit(*record) && of_host) row->set_host_limit_bytes(record->group_limit_bytes);
  if (record->lock_limit_bytes > 0 && of_host) row->set_locked_limit_bytes(record->lock_limit_bytes);
  const Held held = SumUp(failed, *record);
  uint64_t others_bytes = 0;
  if (!of_host && record->total_bytes > 0) {
    const uint64_t used = record->total_bytes - std::min(record->total_bytes, record->free_bytes);
    const uint64_t ours = held.device + held.lost_in_pieces;
    // Where managed memory lay is not known, nor on which of several GPUs the rest.
    if (held.managed == 0 && process.devices.size() <= 1) {
      others_bytes = used > ours ? used - ours : 0;
      row->set_others_bytes(others_bytes);
    }
    if (record->pool_reserved_bytes > 0) row->set_reserved_unused_bytes(held.pool_unused);
  }
  row->set_cause(of_host ? CauseOnHost(*record) : CauseOnGpu(*record, held, failed.small, others_bytes));
}

}  // namespace

void AddOutOfMemory(const Run& run, Symbolizer* symbolizer, Report* report) {
  struct Failure {
    const ProcessModel* process;
    const FailedAllocation* failed;
  };
  std::vector<Failure> failures;
  for (const auto& process : run) {
    for (const FailedAllocation& failed : process->failed_allocations.places())
      failures.push_back({process.get(), &failed});
  }
  // What failed last is what the program ended of.
  std::stable_sort(failures.begin(), failures.end(),
                   [](const Failure& a, const Failure& b) { return a.failed->last_ns > b.failed->last_ns; });
  for (const Failure& failure : failures) AddFailure(run, *failure.process, *failure.failed, symbolizer, report);
}

}  // namespace uvmtrace::analyzer
