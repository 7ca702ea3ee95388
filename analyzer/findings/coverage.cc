// By which doors calls were seen, and whether calls happened that no door saw.
//
// With UVMTRACE_AUDIT=1 CUPTI is a witness that needs no door. It counts the outermost call alone: a driver call
// beneath a runtime call passes our hooks without having happened in its count. A program with a statically linked
// runtime is the other way round: CUPTI counts its runtime calls, which no door can see, and the hooks see the driver
// calls beneath them. So what the driver's hooks saw beyond CUPTI's count is set against what is missing of the runtime
// functions that end in them, and what is covered so is no gap.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "analyzer/findings/sections.h"

namespace uvmtrace::analyzer {
namespace {

constexpr size_t kMaximumGaps = 10;
constexpr std::array<const char*, kDoorCount> kDoorNames = {"unknown", "runtime_symbol", "driver_symbol",
                                                            "get_proc_address", "cupti"};

struct Count {
  uint64_t happened = 0;
  uint64_t seen = 0;
  uint64_t seen_beneath = 0;

  uint64_t confirmed() const { return std::min(seen, happened); }
  uint64_t missing() const { return happened - confirmed() - seen_beneath; }
};
using Counts = std::map<std::string, Count>;

bool IsRuntime(const std::string& function) { return function.rfind("cuda", 0) == 0; }

// "cuMemFree_v2_ptsz" -> "cuMemFree"
std::string_view WithoutSuffixes(std::string_view name) {
  for (bool cut = true; cut;) {
    cut = false;
    for (const std::string_view twin : {"_ptsz", "_ptds"}) {
      if (name.size() > twin.size() && name.substr(name.size() - twin.size()) == twin) {
        name.remove_suffix(twin.size());
        cut = true;
      }
    }
    const size_t version = name.rfind("_v");
    if (version != std::string_view::npos && version + 2 < name.size() &&
        name.find_first_not_of("0123456789", version + 2) == std::string_view::npos) {
      name = name.substr(0, version);
      cut = true;
    }
  }
  return name;
}

// What a runtime function and the driver functions that it ends in have in common.
std::string FamilyOf(const std::string& function) {
  std::string_view name = WithoutSuffixes(function);
  name.remove_prefix(std::min<size_t>(name.size(), IsRuntime(function) ? 4 : 2));
  const auto has = [name](std::string_view word) { return name.find(word) != std::string_view::npos; };
  if (has("Graph") || has("Capture") || has("Pool") || has("Ipc")) return std::string(name);
  if (has("DeviceReset") || has("CtxReset")) return "reset";
  if (has("Prefetch")) return "prefetch";
  if (has("Advise") || has("Discard")) return "advise";
  if (has("emcpy")) return "copy";
  if (has("emset")) return "set";
  if (has("HostRegister") || has("HostUnregister")) return std::string(name);
  if (has("Free") || has("ArrayDestroy")) return "free";
  if (has("Malloc") || has("MemAlloc") || has("HostAlloc") || has("ArrayCreate")) return "allocate";
  return std::string(name);
}

// Sets what the driver's hooks saw beyond CUPTI's count against what is missing of the runtime. Of one process: another
// may well be linked otherwise.
void CoverFromBeneath(Counts* counts) {
  std::map<std::string, uint64_t> driver_seen;
  std::map<std::string, uint64_t> driver_surplus;
  std::map<std::string, uint64_t> runtime_seen;
  uint64_t any_runtime_seen = 0;
  for (const auto& [function, count] : *counts) {
    const std::string family = FamilyOf(function);
    if (IsRuntime(function)) {
      runtime_seen[family] += count.seen;
      any_runtime_seen += count.seen;
    } else {
      driver_seen[family] += count.seen;
      driver_surplus[family] += count.seen - count.confirmed();
    }
  }
  for (auto& [function, count] : *counts) {
    if (!IsRuntime(function) || count.happened <= count.seen) continue;
    const std::string family = FamilyOf(function);
    // A CUPTI that counts nested calls has no surplus: without any runtime call seen they can only be the same ones.
    uint64_t& spare = any_runtime_seen == 0 ? driver_seen[family] : driver_surplus[family];
    uint64_t& taken = runtime_seen[family];  // calls that were seen have a driver call beneath them, too
    const uint64_t by_seen = std::min(taken, spare);
    spare -= by_seen;
    taken = 0;
    count.seen_beneath = std::min(count.happened - count.seen, spare);
    spare -= count.seen_beneath;
  }
}

void AddDoors(const Run& run, Coverage* coverage) {
  std::array<uint64_t, kDoorCount> calls{};
  for (const auto& process : run) {
    for (size_t door = 0; door < kDoorCount; ++door) calls[door] += process->calls_by_door[door];
  }
  for (size_t door = 0; door < kDoorCount; ++door) {
    if (calls[door] == 0) continue;
    DoorRow* row = coverage->add_doors();
    row->set_door(kDoorNames[door]);
    row->set_calls(calls[door]);
  }
}

void AddApi(const Counts& counts, bool runtime, Coverage* coverage) {
  Count sum;
  bool any = false;
  for (const auto& [function, count] : counts) {
    if (IsRuntime(function) != runtime) continue;
    any = true;
    sum.happened += count.happened;
    sum.seen += count.confirmed();
    sum.seen_beneath += count.seen_beneath;
  }
  if (!any) return;
  ApiCoverageRow* row = coverage->add_apis();
  row->set_api(runtime ? "runtime" : "driver");
  row->set_happened(sum.happened);
  row->set_seen(sum.seen);
  if (runtime) row->set_seen_beneath(sum.seen_beneath);
  if (sum.happened > 0) {
    row->set_share(static_cast<double>(sum.seen + sum.seen_beneath) / static_cast<double>(sum.happened));
  }
}

// A door that is known not to see everything says so in a source state of its own.
std::string BlindDoor(const Run& run) {
  for (const auto& process : run) {
    for (const auto& [name, source] : process->sources) {
      if (name.rfind("doors.", 0) == 0 && source.state == State::kUnavailable)
        return fmt::format("{}: {}", name, source.reason);
    }
  }
  return "";
}

void AddGaps(const Run& run, const Counts& counts, Coverage* coverage) {
  std::vector<const Counts::value_type*> gaps;
  uint64_t beneath = 0;
  for (const auto& entry : counts) {
    beneath += entry.second.seen_beneath;
    if (entry.second.missing() > 0) gaps.push_back(&entry);
  }
  std::stable_sort(gaps.begin(), gaps.end(),
                   [](const auto* a, const auto* b) { return a->second.missing() > b->second.missing(); });
  if (gaps.size() > kMaximumGaps) gaps.resize(kMaximumGaps);
  const std::string blind = BlindDoor(run);
  for (const auto* gap : gaps) {
    CoverageGapRow* row = coverage->add_gaps();
    row->set_function(gap->first);
    row->set_happened(gap->second.happened);
    row->set_seen(gap->second.confirmed());
    if (IsRuntime(gap->first)) row->set_seen_beneath(gap->second.seen_beneath);
    if (!blind.empty()) {
      row->set_explanation(blind);
    } else if (IsRuntime(gap->first) && beneath > 0) {
      row->set_explanation(
          "the runtime is linked statically, and answers a call about null or no bytes without calling the driver");
    }
  }
}

std::string WhyNoAudit(const Run& run) {
  for (const auto& process : run) {
    const auto audit = process->sources.find("audit");
    if (audit == process->sources.end()) continue;
    const SourceStateDefinition& source = audit->second;
    if (source.state == State::kActive) return "CUPTI's counts stand at the end of a trace, and this one was cut off";
    return "the audit did not run: " + (source.reason.empty() ? "no reason was recorded" : source.reason);
  }
  return "UVMTRACE_AUDIT=1 lets CUPTI count the calls as well, and shows here whether any came by another way";
}

}  // namespace

void AddCoverage(const Run& run, Report* report) {
  Coverage* coverage = report->mutable_capture()->mutable_coverage();
  AddDoors(run, coverage);
  Counts counts;
  size_t audited = 0;
  for (const auto& process : run) {
    if (process->audit_counts.empty()) continue;
    ++audited;
    Counts own;
    for (const auto& [function, audit] : process->audit_counts) own[function] = {audit.happened, audit.seen, 0};
    CoverFromBeneath(&own);
    for (const auto& [function, count] : own) {
      counts[function].happened += count.happened;
      counts[function].seen += count.confirmed();  // what a call of another process was seen too often covers nothing
      counts[function].seen_beneath += count.seen_beneath;
    }
  }
  if (audited == 0) {
    coverage->set_note(WhyNoAudit(run));
    return;
  }
  AddApi(counts, true, coverage);
  AddApi(counts, false, coverage);
  AddGaps(run, counts, coverage);
  if (audited < run.size()) {
    coverage->set_note(fmt::format("{} of {} processes left CUPTI's counts", audited, run.size()));
  }
}

}  // namespace uvmtrace::analyzer
