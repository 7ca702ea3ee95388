// Findings about where memory lives: objects that share a page, advice that fights the access, copies that writes take
// away.
#include <fmt/format.h>

#include <algorithm>

#include "analyzer/explain/finding_rules.h"
#include "analyzer/units.h"

namespace uvmtrace::analyzer {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

std::string Pointer(const SiteRow* site) { return site == nullptr || site->name().empty() ? "ptr" : site->name(); }

}  // namespace

void SharedPage(const Evidence& evidence, Findings* findings) {
  constexpr uint64_t kRepeated = 8;  // faults of each side: fewer come from the first touches
  const Report& report = evidence.report();
  // Pages with the same objects are one finding.
  std::vector<SharedPageRow> groups;
  for (const SharedPageRow& row : report.shared_pages()) {
    if (row.gpu_fault_entries() < kRepeated || row.cpu_faults() < kRepeated || row.keys_size() < 2) continue;
    const auto same = [&row](const SharedPageRow& group) {
      return std::equal(group.keys().begin(), group.keys().end(), row.keys().begin(), row.keys().end());
    };
    const auto group = std::find_if(groups.begin(), groups.end(), same);
    if (group == groups.end()) {
      groups.push_back(row);
      continue;
    }
    group->set_gpu_fault_entries(group->gpu_fault_entries() + row.gpu_fault_entries());
    group->set_cpu_faults(group->cpu_faults() + row.cpu_faults());
    group->set_bytes(group->bytes() + row.bytes());
  }
  for (const SharedPageRow& row : groups) {
    std::vector<std::string> places;
    uint64_t waited_ns = 0;
    for (int i = 0; i < row.sites_size(); ++i) {
      const SiteRow* site = i < row.keys_size() ? evidence.Site(row.keys(i)) : nullptr;
      if (site != nullptr) waited_ns += WaitedNs(evidence, *site);
      places.push_back(site != nullptr ? PlaceOf(*site) : PlaceOf(row.sites(i)));
    }
    FindingRow finding = MakeFinding("Give each a page of its own (false sharing)", row.keys(0), Join(places));
    for (int i = 1; i < row.keys_size(); ++i) finding.add_evidence(row.keys(i));
    finding.set_bytes(row.bytes());
    if (waited_ns > 0) {
      SetCost(evidence, CostBase::kGpuTime, waited_ns, &finding);
      SetGain(evidence, waited_ns, "the CPU and the GPU use different objects of the page", &finding);
    }
    finding.set_sentence(fmt::format(
        "Objects of {} lines share a page: it took {} fault entries of the GPU and {} CPU faults, and {} moved, though "
        "each side may use only one of them.",
        row.keys_size(), FormatCount(row.gpu_fault_entries()), FormatCount(row.cpu_faults()),
        FormatBytes(row.bytes())));
    finding.set_change(
        "Round the size of each up to 64 KiB, so that cudaMallocManaged puts no two of them on one page; or keep what "
        "the "
        "CPU writes in pinned memory");
    findings->push_back(std::move(finding));
  }
}

void AdviceFights(const Evidence& evidence, Findings* findings) {
  for (const CallSiteRow& call : evidence.report().call_sites()) {
    if (call.operation() != "advise" || call.advice() != "preferred_location") continue;
    const SiteRow* site = evidence.Site(call.target());
    if (site == nullptr) continue;
    // Another line may advise the same memory otherwise.
    for (const CallSiteRow* other : evidence.CallsOn(call.target(), "advise")) {
      if (other->advice() != "preferred_location" || other->location() == call.location()) continue;
      if (other->key() <= call.key() || call.count() + other->count() < 4) continue;
      FindingRow row = MakeFinding("Advise one place, not two", site->key(), PlaceOf(call) + " and " + PlaceOf(*other));
      row.set_severity("medium");
      row.set_bytes(site->peak_bytes());
      row.set_sentence(fmt::format(
          "{} preferred-location calls at {} and {} at {} name different places for the memory of {}: each takes back "
          "what the other said.",
          FormatCount(call.count()), LineOf(call.site()), FormatCount(other->count()), LineOf(other->site()),
          LineOf(*site)));
      row.set_change("Keep the advice that fits the phase that costs most, and leave out the other");
      findings->push_back(std::move(row));
    }
    const bool cpu = call.location() < 0;
    const uint64_t by_gpu = FaultCount(*site);
    const uint64_t waited_ns = WaitedNs(evidence, *site);
    const bool gpu_fetches = cpu && by_gpu > 0 && site->faulted_bytes() >= std::max(kMiB, site->peak_bytes() / 4);
    const bool cpu_fetches = !cpu && site->refaulted_after_cpu_bytes() >= std::max(kMiB, site->peak_bytes() / 4);
    if (!gpu_fetches && !cpu_fetches) continue;
    const std::string place = cpu ? "the CPU" : fmt::format("GPU {}", call.location());
    FindingRow row = MakeFinding("Let the advice fit the access", call.key(), PlaceOf(call));
    row.add_evidence(site->key());
    row.set_bytes(cpu ? site->faulted_bytes() : site->refaulted_after_cpu_bytes());
    SetCost(evidence, CostBase::kGpuTime, waited_ns, &row);
    row.set_sentence(fmt::format(
        "cudaMemAdvise says that {} is the preferred location of {}, but {}: {}, and the GPU waited {}.", place,
        LineOf(*site), cpu ? "the GPU fetches it" : "the CPU fetches it, and it comes back",
        cpu ? fmt::format("{} came in because of faults ({})", FormatBytes(site->faulted_bytes()),
                          evidence.Faults(*site))
            : fmt::format("{} came back after the CPU had touched it", FormatBytes(site->refaulted_after_cpu_bytes())),
        FormatDuration(waited_ns)));
    row.set_change(cpu ? fmt::format("Leave the advice out, and prefetch to the GPU; or add cudaMemAdvise({}, {}, "
                                     "cudaMemAdviseSetAccessedBy, GPU), so that the GPU reads it in place",
                                     Pointer(site), BytesOfOne(*site))
                       : "Leave the advice out, or keep the CPU away from this memory while the GPU uses it");
    findings->push_back(std::move(row));
  }
}

void ReadMostlyWritten(const Evidence& evidence, Findings* findings) {
  const Totals& totals = evidence.report().totals();
  const uint64_t invalidated = totals.read_duplicate_invalidated_bytes();
  if (invalidated < kMiB || invalidated * 4 < totals.read_duplicated_bytes()) return;
  const CallSiteRow* advice = nullptr;
  for (const CallSiteRow& call : evidence.report().call_sites()) {
    if (call.operation() != "advise" || call.advice() != "read_mostly") continue;
    if (advice == nullptr || call.bytes() > advice->bytes()) advice = &call;
  }
  const SiteRow* site = advice == nullptr ? nullptr : evidence.Site(advice->target());
  FindingRow row = MakeFinding("Do not call read-mostly what is written", advice == nullptr ? "" : advice->key(),
                               advice == nullptr ? "the read-mostly advice" : PlaceOf(*advice));
  row.set_bytes(invalidated);
  if (site != nullptr) {
    row.add_evidence(site->key());
    SetCost(evidence, CostBase::kGpuTime, WaitedNs(evidence, *site), &row);
  }
  row.set_sentence(fmt::format(
      "{} of read-mostly pages were copied, and writes took {} of such copies away again: memory that is advised as "
      "read-mostly is being written{}.",
      FormatBytes(totals.read_duplicated_bytes()), FormatBytes(invalidated),
      site == nullptr ? "" : ", that of " + LineOf(*site) + " among it"));
  row.set_change(
      fmt::format("Leave out cudaMemAdviseSetReadMostly for memory that is written in the loop, or unset it "
                  "before the writes: cudaMemAdvise({}, {}, cudaMemAdviseUnsetReadMostly, 0)",
                  Pointer(site), site == nullptr ? "bytes" : BytesOfOne(*site)));
  if (!row.has_cost_ns()) row.set_severity("medium");
  findings->push_back(std::move(row));
}

void BetweenGpus(const Evidence& evidence, Findings* findings) {
  for (const SiteRow& site : evidence.lines()) {
    const uint64_t bytes = site.device_to_device_bytes();
    if (bytes < kMiB || bytes < 2 * site.peak_bytes()) continue;
    const uint64_t waited_ns = WaitedNs(evidence, site);
    FindingRow row = MakeFinding("Give each GPU its own part", site.key(), PlaceOf(site));
    row.set_bytes(bytes);
    SetCost(evidence, CostBase::kGpuTime, waited_ns, &row);
    row.set_sentence(fmt::format(
        "GPUs take turns on this memory: {} moved between them, {:.1f} times its size, and they waited {} for it.",
        FormatBytes(bytes), static_cast<double>(bytes) / static_cast<double>(std::max<uint64_t>(site.peak_bytes(), 1)),
        FormatDuration(waited_ns)));
    const bool only_read = site.reads() > 0 && site.writes() + site.atomics() == 0;
    row.set_change(only_read
                       ? fmt::format("cudaMemAdvise({}, {}, cudaMemAdviseSetReadMostly, 0): each GPU then keeps a "
                                     "copy of what is only read",
                                     Pointer(&site), BytesOfOne(site))
                       : "Split it by GPU, or let one GPU write and the others read it over their link "
                         "(cudaMemAdviseSetPreferredLocation the writer, cudaMemAdviseSetAccessedBy the others)");
    findings->push_back(std::move(row));
  }
}

}  // namespace uvmtrace::analyzer
