// Findings about calls that the program makes again and again, and about hazards.
#include <fmt/format.h>

#include <algorithm>

#include "analyzer/explain/finding_rules.h"
#include "analyzer/units.h"

namespace uvmtrace::analyzer {
namespace {

struct LoopWords {
  const char* kind;
  const char* title;
  const char* change;
};

constexpr LoopWords kLoopWords[] = {
    {"pinned", "Pin once, outside of the loop",
     "Allocate the pinned buffer once and use it again: each cudaHostAlloc locks every page, and each cudaFreeHost "
     "waits "
     "for the GPU"},
    {"registered", "Register once, outside of the loop",
     "cudaHostRegister the memory once for as long as it lives: each call locks every page"},
    {"physical", "Map once, outside of the loop",
     "Keep physical memory and its mapping, and use it again: cuMemCreate, cuMemMap and cuMemSetAccess each go to the "
     "driver, and cuMemUnmap waits"},
    {"reserved", "Reserve addresses once, outside of the loop", "Reserve a large range once and map into it"},
    {"managed", "Allocate once, outside of the loop",
     "Keep the buffer and use it again: fresh managed memory has no pages, so that each first touch faults"},
    {"", "Allocate once, outside of the loop",
     "Keep the buffer and use it again, or cudaMallocAsync and cudaFreeAsync from a pool: cudaFree waits for the GPU"},
};

const LoopWords& WordsOf(const std::string& kind) {
  for (const LoopWords& words : kLoopWords) {
    if (kind == words.kind) return words;
  }
  return kLoopWords[std::size(kLoopWords) - 1];
}

// Time inside the calls that allocated and freed a site's memory.
uint64_t CallNs(const Evidence& evidence, const SiteRow& site, bool* estimated) {
  *estimated = !site.has_call_ns();
  if (site.has_call_ns()) return site.call_ns();
  const MemoryRow* memory = evidence.Memory(site.kind());
  if (memory == nullptr) return 0;
  return static_cast<uint64_t>(Share(site.allocations(), memory->allocations()) *
                               static_cast<double>(memory->call_ns()));
}

std::string HazardTitle(const std::string& hazard) {
  if (hazard == "double_free") return "Free it once";
  if (hazard == "interior_free") return "Free the address that was allocated";
  if (hazard == "use_after_free") return "Free after the last use";
  if (hazard == "unmap_under_kernel") return "Unmap after the kernel's end";
  if (hazard == "touch_under_kernel") return "Synchronize before the CPU touches it (data race)";
  if (hazard == "free_waited") return "Free where the GPU is idle";
  if (hazard == "unused_prefetch") return "Leave out the prefetch that nothing uses";
  if (hazard == "refused_hint") return "Leave out the hint that does nothing";
  return hazard;
}

}  // namespace

namespace {
// A call that a file of changes made, and no line of the program.
bool IsApplied(const CallSiteRow& call) { return call.function().rfind("uvmtrace:", 0) == 0; }
}  // namespace

void PrefetchRedundant(const Evidence& evidence, Findings* findings) {
  for (const CallSiteRow& call : evidence.report().call_sites()) {
    if (call.operation() != "prefetch" || call.without_effect() < 10 || IsApplied(call)) continue;
    if (call.without_effect() * 2 < call.count()) continue;
    FindingRow row =
        MakeFinding("Prefetch once, not every time", call.key(),
                    PlaceOf(call) + (call.target_site().empty() ? "" : ", memory of " + LineOf(call.target_site())));
    if (!call.target().empty()) row.add_evidence(call.target());
    row.set_bytes(call.bytes() - std::min(call.bytes(), call.moved_bytes()));
    const uint64_t cost_ns =
        static_cast<uint64_t>(Share(call.without_effect(), call.count()) * static_cast<double>(call.total_ns()));
    SetCost(evidence, CostBase::kRun, cost_ns, &row);
    SetGain(evidence, cost_ns, "each of these calls costs as much as the others", &row);
    row.set_sentence(fmt::format(
        "{} of {} calls of {} moved nothing, because the memory was there already: {} were asked for, {} moved. The "
        "calls took {} of the thread that launches.",
        FormatCount(call.without_effect()), FormatCount(call.count()), call.function(), FormatBytes(call.bytes()),
        FormatBytes(call.moved_bytes()), FormatDuration(call.total_ns())));
    row.set_change("Call it once, and again only after the CPU used the memory");
    findings->push_back(std::move(row));
  }
}

void AllocateInLoop(const Evidence& evidence, Findings* findings) {
  constexpr uint64_t kManyTimes = 50;
  for (const SiteRow& site : evidence.lines()) {
    if (site.allocations() < kManyTimes || site.frees() * 2 < site.allocations()) continue;
    bool estimated = false;
    const uint64_t call_ns = CallNs(evidence, site, &estimated);
    if (Share(call_ns, evidence.run_ns()) < (site.kind() == "pool" ? 0.05 : 0.01)) continue;
    const LoopWords& words = WordsOf(site.kind());
    FindingRow row = MakeFinding(words.title, site.key(), PlaceOf(site));
    row.set_bytes(site.total_bytes());
    SetCost(evidence, CostBase::kRun, call_ns, &row);
    SetGain(evidence, static_cast<uint64_t>(static_cast<double>(call_ns) * (1 - Share(1, site.allocations()))),
            "one allocation in the place of all", &row);
    row.set_sentence(fmt::format(
        "This line allocated {} and freed {}, {} in all and {} at most at once: the calls took {}{}, {} each.",
        Times(site.allocations()), Times(site.frees()), FormatBytes(site.total_bytes()), FormatBytes(site.peak_bytes()),
        estimated ? "about " : "", FormatDuration(call_ns), FormatDuration(call_ns / site.allocations())));
    row.set_change(words.change);
    findings->push_back(std::move(row));
  }
}

void AdviseInLoop(const Evidence& evidence, Findings* findings) {
  for (const CallSiteRow& call : evidence.report().call_sites()) {
    if (call.operation() != "advise" || call.count() < 50 || IsApplied(call)) continue;
    if (Share(call.total_ns(), evidence.run_ns()) < 0.01) continue;
    FindingRow row = MakeFinding("Advise once, the whole range", call.key(), PlaceOf(call));
    row.set_bytes(call.bytes());
    SetCost(evidence, CostBase::kRun, call.total_ns(), &row);
    SetGain(evidence, call.total_ns(), "one call for the whole range", &row);
    row.set_sentence(
        fmt::format("{} was called {}, for {} in all, and took {}: each call splits the range and changes "
                    "page tables.",
                    call.function(), Times(call.count()), FormatBytes(call.bytes()), FormatDuration(call.total_ns())));
    row.set_change("Call it once for the whole allocation, outside of the loop");
    findings->push_back(std::move(row));
  }
}

void HazardFindings(const Evidence& evidence, Findings* findings) {
  for (const HazardRow& hazard : evidence.report().hazards().rows()) {
    std::string place = hazard.site().empty() ? hazard.function() : PlaceOf(hazard.site());
    if (place.empty()) place = hazard.memory_site().empty() ? "not known" : "memory of " + LineOf(hazard.memory_site());
    FindingRow row = MakeFinding(HazardTitle(hazard.hazard()), "", place);
    row.set_id(hazard.hazard());
    if (hazard.severity() == "error") row.set_severity("error");
    if (hazard.severity() == "warning") row.set_severity("medium");
    if (hazard.has_bytes() || hazard.has_moved_bytes()) row.set_bytes(std::max(hazard.moved_bytes(), hazard.bytes()));
    if (hazard.time_ns() > 0) {
      SetCost(evidence, CostBase::kRun, hazard.time_ns(), &row);
      if (hazard.severity() == "cost") SetGain(evidence, hazard.time_ns(), "the time is in these calls", &row);
    }
    row.set_sentence(
        fmt::format("{} ({}{}).", hazard.what(), Times(hazard.count()),
                    hazard.has_first_ns() ? ", first " + FormatDuration(hazard.first_ns()) + " after the start" : ""));
    std::string change = hazard.advice();
    if (!change.empty() && change.back() == '.') change.pop_back();
    row.set_change(change);
    findings->push_back(std::move(row));
  }
}

}  // namespace uvmtrace::analyzer
