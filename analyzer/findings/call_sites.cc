// Calls by line: copies, sets, prefetches, advice, registrations and frees, with the memory that they were about.
#include <algorithm>
#include <map>
#include <tuple>

#include "analyzer/findings/call_site.h"
#include "analyzer/findings/sections.h"
#include "analyzer/findings/site_names.h"

namespace uvmtrace::analyzer {
namespace {

const char* OperationName(Operation operation) {
  switch (operation) {
    case Operation::kCopy:
      return "copy";
    case Operation::kSet:
      return "set";
    case Operation::kPrefetch:
      return "prefetch";
    case Operation::kAdvise:
      return "advise";
    case Operation::kRegister:
      return "register";
    case Operation::kUnregister:
      return "unregister";
    case Operation::kFree:
      return "free";
    default:
      return "other";
  }
}

// cudaMemoryAdvise and CUmem_advise have the same values.
const char* AdviceName(uint32_t advice) {
  switch (advice) {
    case 1:
      return "read_mostly";
    case 2:
      return "unset_read_mostly";
    case 3:
      return "preferred_location";
    case 4:
      return "unset_preferred_location";
    case 5:
      return "accessed_by";
    case 6:
      return "unset_accessed_by";
    default:
      return "unknown";
  }
}

// "pinned", "device", ... as one end of a copy. What no allocation holds is host memory that nobody page-locked, if the
// other end is a GPU's.
const char* EndName(const std::string& key, const std::string& other, const SiteNames& names) {
  const auto kind_of = [&names](const std::string& one) {
    return one.empty() || one == SiteNames::kUnattributed || one == SiteNames::kOthers ? MemoryKind::kUnknown
                                                                                       : names.NamedOf(one).kind;
  };
  switch (kind_of(key)) {
    case MemoryKind::kPinned:
    case MemoryKind::kRegistered:
      return "pinned";
    case MemoryKind::kManaged:
      return "managed";
    case MemoryKind::kDevice:
    case MemoryKind::kPool:
    case MemoryKind::kPhysical:
    case MemoryKind::kImported:
      return "device";
    default: {
      const MemoryKind at_other = kind_of(other);
      const bool of_gpu = at_other == MemoryKind::kDevice || at_other == MemoryKind::kPool;
      return key.empty() && of_gpu ? "pageable" : "";
    }
  }
}

// "pageable_to_device"; empty where an end is not known.
std::string CopyKind(const std::string& from, const std::string& to, const SiteNames& names) {
  const std::string source = EndName(from, to, names);
  const std::string destination = EndName(to, from, names);
  return source.empty() || destination.empty() ? "" : source + "_to_" + destination;
}

struct Sums {
  CallSiteSums calls;
  const ProcessModel* process = nullptr;
  CallSite site;
};

}  // namespace

void AddCallSites(const Run& run, const Knowledge& known, const SiteNames& names, const ReportOptions& options,
                  Symbolizer* symbolizer, Report* report) {
  constexpr size_t kMaximumNamed = 4096;
  // By function, place, target, the other end, whether it is written, location and detail.
  std::map<std::tuple<std::string, std::string, std::string, std::string, bool, int32_t, uint32_t>, Sums> rows;
  for (const auto& process : run) {
    size_t named = 0;
    for (const CallSiteSums& calls : process->call_sites.sites()) {
      if (calls.count == 0) continue;
      const auto function = process->functions.find(calls.key.function);
      const std::string name = function == process->functions.end() ? "?" : function->second.name;
      const std::string key = calls.key.target == CallSiteKey::kNoSite ? "" : names.KeyOf(*process, calls.key.target);
      const std::string other_end =
          calls.key.other_end == CallSiteKey::kNoSite ? "" : names.KeyOf(*process, calls.key.other_end);
      CallSite site;
      if (named++ < kMaximumNamed) site = ResolveCallSite(*process, calls.key.stack, symbolizer);
      Sums& sums = rows[{name, site.site, key, other_end, calls.key.from_target, calls.key.location, calls.key.detail}];
      sums.process = process.get();
      sums.site = std::move(site);
      sums.calls.operation = calls.operation;
      sums.calls.count += calls.count;
      sums.calls.failures += calls.failures;
      sums.calls.bytes += calls.bytes;
      sums.calls.total_ns += calls.total_ns;
      sums.calls.followed += calls.followed;
      sums.calls.moved_bytes += calls.moved_bytes;
      sums.calls.without_effect += calls.without_effect;
    }
  }
  std::vector<decltype(rows)::const_pointer> order;
  for (const auto& row : rows) order.push_back(&row);
  std::stable_sort(order.begin(), order.end(), [](auto a, auto b) {
    return std::pair(a->second.calls.bytes, a->second.calls.total_ns) >
           std::pair(b->second.calls.bytes, b->second.calls.total_ns);
  });
  if (options.top > 0 && order.size() > 4 * options.top) order.resize(4 * options.top);
  for (const auto* entry : order) {
    const auto& [function, place, key, other_end, from_target, location, detail] = entry->first;
    const Sums& sums = entry->second;
    CallSiteRow* row = report->add_call_sites();
    row->set_key(std::string(OperationName(sums.calls.operation)) + ":" + function + ":" + place + ":" + key +
                 (other_end.empty() ? "" : ":" + other_end));
    row->set_function(function);
    row->set_operation(OperationName(sums.calls.operation));
    row->set_site(place);
    for (const std::string& frame : sums.site.stack) row->add_stack(frame);
    if (!key.empty()) {
      row->set_target(key);
      row->set_target_site(names.SiteOfKey(key));
    }
    if (sums.calls.operation == Operation::kPrefetch || sums.calls.operation == Operation::kAdvise)
      row->set_location(location);
    if (sums.calls.operation == Operation::kAdvise) row->set_advice(AdviceName(detail));
    if (sums.calls.operation == Operation::kCopy) {
      row->set_other_end(other_end);
      row->set_copy_kind(from_target ? CopyKind(key, other_end, names) : CopyKind(other_end, key, names));
    }
    row->set_count(sums.calls.count);
    row->set_failures(sums.calls.failures);
    row->set_bytes(sums.calls.bytes);
    row->set_total_ns(sums.calls.total_ns);
    if (sums.calls.operation == Operation::kPrefetch && known.any_migration() && !known.estimated &&
        sums.calls.followed > 0) {
      row->set_moved_bytes(sums.calls.moved_bytes);
      row->set_without_effect(sums.calls.without_effect);
    }
    if (run.size() > 1 && sums.process->process) row->set_pid(sums.process->process->pid);
  }
}

}  // namespace uvmtrace::analyzer
