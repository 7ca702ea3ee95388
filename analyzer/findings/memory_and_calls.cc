// What was allocated of which kind, and what the calls cost.
#include <algorithm>
#include <vector>

#include "analyzer/findings/sections.h"

namespace uvmtrace::analyzer {

std::string MemoryKindName(MemoryKind kind) {
  switch (kind) {
    case MemoryKind::kDevice:
      return "device";
    case MemoryKind::kManaged:
      return "managed";
    case MemoryKind::kPinned:
      return "pinned";
    case MemoryKind::kRegistered:
      return "registered";
    case MemoryKind::kPool:
      return "pool";
    case MemoryKind::kPhysical:
      return "physical";
    case MemoryKind::kReserved:
      return "reserved";
    case MemoryKind::kImported:
      return "imported";
    case MemoryKind::kSystem:
      return "system";
    default:
      return "unknown";
  }
}

MemoryKindStatistics SumOfKind(const Run& run, MemoryKind kind) {
  MemoryKindStatistics sum;
  for (const auto& process : run) {
    const MemoryKindStatistics& one = process->memory.of(kind);
    sum.allocations += one.allocations;
    sum.frees += one.frees;
    sum.live_bytes += one.live_bytes;
    sum.peak_bytes += one.peak_bytes;
    sum.total_bytes += one.total_bytes;
    sum.call_ns += one.call_ns;
    sum.failures += one.failures;
  }
  return sum;
}

void AddMemory(const Run& run, Report* report) {
  for (size_t index = 0; index < kMemoryKindCount; ++index) {
    const auto kind = static_cast<MemoryKind>(index);
    const MemoryKindStatistics sum = SumOfKind(run, kind);
    if (sum.allocations == 0 && sum.failures == 0 && sum.frees == 0) continue;
    MemoryRow* row = report->add_memory();
    row->set_kind(MemoryKindName(kind));
    row->set_allocations(sum.allocations);
    row->set_frees(sum.frees);
    row->set_live_bytes(sum.live_bytes);
    row->set_peak_bytes(sum.peak_bytes);
    row->set_total_bytes(sum.total_bytes);
    row->set_call_ns(sum.call_ns);
    row->set_failures(sum.failures);
  }
  if (report->memory_size() == 0) AddEmptySection("memory", "no call that allocates memory was recorded", report);
}

void AddCalls(const Run& run, Report* report) {
  std::map<std::string, FunctionStatistics> by_name;
  uint64_t calls = 0;
  for (const auto& process : run) {
    calls += process->api_calls;
    for (const auto& [id, function] : process->functions) {
      if (function.count == 0) continue;
      FunctionStatistics& sum = by_name[function.defined ? function.name : "(function " + std::to_string(id) + ")"];
      sum.count += function.count;
      sum.failures += function.failures;
      sum.total_ns += function.total_ns;
      sum.bytes += function.bytes;
      sum.durations.Merge(function.durations);
    }
  }
  report->mutable_totals()->set_api_calls(calls);
  std::vector<std::pair<std::string, const FunctionStatistics*>> order;
  for (const auto& [name, function] : by_name) order.emplace_back(name, &function);
  std::stable_sort(order.begin(), order.end(),
                   [](const auto& a, const auto& b) { return a.second->total_ns > b.second->total_ns; });
  for (const auto& [name, function] : order) {
    CallRow* row = report->add_calls();
    row->set_name(name);
    row->set_count(function->count);
    row->set_failures(function->failures);
    row->set_total_ns(function->total_ns);
    row->set_p50_ns(function->durations.Quantile(0.50));
    row->set_p99_ns(function->durations.Quantile(0.99));
    row->set_max_ns(function->durations.maximum());
    row->set_bytes(function->bytes);
  }
  if (report->calls_size() == 0) AddEmptySection("calls", "the program called no intercepted function", report);
}

}  // namespace uvmtrace::analyzer
