// Findings about host memory: what is read in place over the link, copies that the driver must stage, pinned memory.
#include <fmt/format.h>

#include <algorithm>

#include "analyzer/explain/finding_rules.h"
#include "analyzer/explain/host_memory.h"
#include "analyzer/units.h"

namespace uvmtrace::analyzer {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

// Whether memory of this size finds room on a GPU beside what is there. Unknown is no.
bool FitsOnAGpu(const Evidence& evidence, uint64_t bytes) {
  for (const CapacityRow& row : evidence.report().capacity()) {
    const uint64_t taken = row.plain_bytes() + row.others_bytes() + row.managed_peak_bytes();
    if (row.total_bytes() > taken && row.total_bytes() - taken >= bytes) return true;
  }
  if (evidence.report().capacity_size() > 0) return false;
  uint64_t held = 0;
  for (const char* kind : {"device", "pool", "physical", "managed"}) {
    if (const MemoryRow* row = evidence.Memory(kind)) held += row->peak_bytes();
  }
  for (const DeviceRow& row : evidence.report().devices()) {
    if (row.total_memory_bytes() > held && row.total_memory_bytes() - held >= bytes) return true;
  }
  return false;
}

bool IsPinned(const SiteRow& site) { return site.kind() == "pinned" || site.kind() == "registered"; }

std::string InPlaceSentence(const InPlace& in_place) {
  std::string text = fmt::format("{} were read in place over the link", FormatBytes(in_place.bytes));
  if (in_place.busy_ns > 0) {
    text += fmt::format(" in {}, at {}", FormatDuration(in_place.busy_ns),
                        FormatRate(static_cast<double>(in_place.bytes) * 1e9 / static_cast<double>(in_place.busy_ns)));
  }
  return text + ": no fault, no migration and no copy shows it";
}

}  // namespace

void ZeroCopyReuse(const Evidence& evidence, Findings* findings) {
  const InPlace in_place = InPlaceOf(evidence);
  if (in_place.bytes < kMiB || in_place.site == nullptr || in_place.memory_bytes == 0) return;
  const double times = static_cast<double>(in_place.bytes) / static_cast<double>(in_place.memory_bytes);
  if (times < 1.5 || !FitsOnAGpu(evidence, in_place.memory_bytes)) return;
  FindingRow row = MakeFinding("Copy it to the GPU once, instead of reading it in place", in_place.site->key(),
                               PlaceOf(*in_place.site));
  row.set_bytes(in_place.bytes);
  if (in_place.busy_ns > 0) {
    SetCost(evidence, CostBase::kGpuTime, in_place.busy_ns, &row);
    bool known = false;
    const uint64_t copy_ns = BulkCopyNs(evidence, in_place.memory_bytes, &known);
    if (known && in_place.busy_ns > copy_ns) {
      SetGain(evidence, in_place.busy_ns - copy_ns,
              fmt::format("one copy of {} at {} {}", FormatBytes(in_place.memory_bytes),
                          FormatRate(evidence.BulkRate()->bytes_per_second), evidence.BulkRate()->words),
              &row);
    }
  } else {
    row.set_severity("high");
  }
  row.set_sentence(fmt::format("{}. The memory is {}: each byte crossed the link {:.1f} times.",
                               InPlaceSentence(in_place), FormatBytes(in_place.memory_bytes), times));
  row.set_change(
      fmt::format("cudaMalloc {0} and cudaMemcpyAsync(gpu, ptr, {0}, cudaMemcpyHostToDevice, stream) once "
                  "before the first launch",
                  FormatBytes(in_place.memory_bytes)));
  findings->push_back(std::move(row));
}

void ZeroCopyLinkBound(const Evidence& evidence, Findings* findings) {
  const InPlace in_place = InPlaceOf(evidence);
  if (in_place.bytes < kMiB || in_place.site == nullptr) return;
  const double times = in_place.memory_bytes == 0
                           ? 0.0
                           : static_cast<double>(in_place.bytes) / static_cast<double>(in_place.memory_bytes);
  if (times >= 1.5 && FitsOnAGpu(evidence, in_place.memory_bytes)) return;  // a copy is the better advice
  const double full = FullShareOfLink(evidence);
  const auto capacity = evidence.LinkCapacity();
  const bool busy = Share(in_place.busy_ns, evidence.gpu_time_ns()) >= 0.05;
  if (full < 0.25 && !busy) return;
  FindingRow row = MakeFinding("Read less over the link", in_place.site->key(), PlaceOf(*in_place.site));
  row.set_bytes(in_place.bytes);
  if (in_place.busy_ns > 0) SetCost(evidence, CostBase::kGpuTime, in_place.busy_ns, &row);
  if (in_place.busy_ns == 0) row.set_severity("high");
  std::string link;
  if (full > 0) link = fmt::format(" The link was full for {} of the run.", FormatPercent(full));
  if (capacity) link += fmt::format(" It carries {} at most.", FormatRate(*capacity));
  row.set_sentence(InPlaceSentence(in_place) + "." + link);
  row.set_change(
      "Keep on the GPU what is used in every step, and copy the rest in pieces beside the kernels (two buffers, a "
      "stream "
      "of its own); a slower link or a smaller data type costs or saves in proportion");
  findings->push_back(std::move(row));
}

void ZeroCopyNotMeasured(const Evidence& evidence, Findings* findings) {
  if (evidence.TrafficBytes("in_place", "") > 0 || LinkWasMeasured(evidence) || !CopiesAreKnown(evidence)) return;
  const SiteRow* largest = nullptr;
  uint64_t bytes = 0;
  for (const SiteRow* site : NotCopied(evidence)) {
    bytes += site->peak_bytes();
    if (largest == nullptr || site->peak_bytes() > largest->peak_bytes()) largest = site;
  }
  if (largest == nullptr || bytes < 64 * kMiB) return;
  FindingRow row = MakeFinding("Look at what is read in place", largest->key(), PlaceOf(*largest));
  row.set_severity("note");
  row.set_bytes(bytes);
  row.set_sentence(fmt::format(
      "{} of pinned or registered host memory are used by no recorded copy: if kernels read it in place, each byte "
      "crosses the link each time. How much did is not known: the link's counters are not in this trace.",
      FormatBytes(bytes)));
  row.set_change(
      "Record with the link's counters (libnvidia-ml.so.1 must be found), or copy to cudaMalloc memory what is read "
      "more "
      "than once");
  findings->push_back(std::move(row));
}

void PageableCopy(const Evidence& evidence, Findings* findings) {
  for (const CallSiteRow& call : evidence.report().call_sites()) {
    if (call.operation() != "copy" || call.copy_kind().rfind("pageable", 0) != 0 || call.bytes() < 16 * kMiB) continue;
    if (Share(call.total_ns(), evidence.run_ns()) < 0.005) continue;
    FindingRow row = MakeFinding("Copy from pinned memory", call.key(), PlaceOf(call));
    row.set_bytes(call.bytes());
    SetCost(evidence, CostBase::kRun, call.total_ns(), &row);
    const double rate =
        static_cast<double>(call.bytes()) * 1e9 / static_cast<double>(std::max<uint64_t>(call.total_ns(), 1));
    const auto bulk = evidence.BulkRate();
    bool known = false;
    const uint64_t pinned_ns = BulkCopyNs(evidence, call.bytes(), &known);
    if (known && pinned_ns < call.total_ns()) {
      SetGain(evidence, call.total_ns() - pinned_ns,
              fmt::format("the same bytes at {} {}", FormatRate(bulk->bytes_per_second), bulk->words), &row);
    }
    row.set_sentence(
        fmt::format("{} called {} copied {} from or to pageable memory in {}, at {}: the driver copies each byte once "
                    "more, through a "
                    "buffer of its own, and the call waits.",
                    call.function(), Times(call.count()), FormatBytes(call.bytes()), FormatDuration(call.total_ns()),
                    FormatRate(rate)));
    row.set_change(
        "Allocate the host's side with cudaHostAlloc, or cudaHostRegister it once, and use cudaMemcpyAsync; in PyTorch "
        "pin_memory() and non_blocking=True");
    findings->push_back(std::move(row));
  }
}

void SmallCopies(const Evidence& evidence, Findings* findings) {
  for (const CallSiteRow& call : evidence.report().call_sites()) {
    if (call.operation() != "copy" || call.count() < 500 || call.bytes() / call.count() > 64 * 1024) continue;
    if (Share(call.total_ns(), evidence.run_ns()) < 0.01) continue;
    FindingRow row = MakeFinding("Copy in one piece", call.key(), PlaceOf(call));
    row.set_bytes(call.bytes());
    SetCost(evidence, CostBase::kRun, call.total_ns(), &row);
    bool known = false;
    const uint64_t copy_ns = BulkCopyNs(evidence, call.bytes(), &known);
    if (known && copy_ns < call.total_ns()) {
      SetGain(evidence, call.total_ns() - copy_ns, fmt::format("one copy {}", evidence.BulkRate()->words), &row);
    }
    row.set_sentence(fmt::format("{} was called {} for {} in all, {} and {} each.", call.function(),
                                 Times(call.count()), FormatBytes(call.bytes()),
                                 FormatBytes(call.bytes() / call.count()),
                                 FormatDuration(call.total_ns() / call.count())));
    row.set_change("Gather on the host and copy once, or cudaMemcpy2DAsync where the pieces are evenly spaced");
    findings->push_back(std::move(row));
  }
}

void PinnedOversized(const Evidence& evidence, Findings* findings) {
  if (!CopiesAreKnown(evidence)) return;
  const bool measured = LinkWasMeasured(evidence);
  const uint64_t in_place = evidence.TrafficBytes("in_place", "");
  for (const SiteRow& site : evidence.lines()) {
    if (!IsPinned(site) || site.peak_bytes() < 64 * kMiB) continue;
    uint64_t copied = 0;
    for (const CallSiteRow* call : evidence.CallsOn(site.key(), "copy")) copied += call->bytes();
    if (copied == 0 && !measured) continue;  // ZeroCopyNotMeasured
    if ((copied + in_place) * 2 > site.peak_bytes()) continue;
    FindingRow row = MakeFinding("Pin only what is used", site.key(), PlaceOf(site));
    row.set_severity("low");
    row.set_bytes(site.peak_bytes() - copied - in_place);
    row.set_sentence(
        fmt::format("{} of {} memory were held, and copies used at most {} of it{}: the rest takes host "
                    "memory that nothing else can have.",
                    FormatBytes(site.peak_bytes()), site.kind(), FormatBytes(copied),
                    measured ? fmt::format(", kernels at most {}", FormatBytes(in_place)) : ""));
    row.set_change("Pin a buffer of the size of a copy and use it again");
    findings->push_back(std::move(row));
  }
}

void LeakedMemory(const Evidence& evidence, Findings* findings) {
  // Memory that lives as long as the program is no leak: only what is allocated again and again counts.
  constexpr uint64_t kAgainAndAgain = 16;
  for (const SiteRow& site : evidence.lines()) {
    if (site.kind() == "reserved") continue;
    if (site.live_allocations() < kAgainAndAgain || site.live_allocations() * 2 < site.allocations()) continue;
    if (site.live_bytes() < 16 * kMiB) continue;
    FindingRow row = MakeFinding("Free it, or keep one and use it again", site.key(), PlaceOf(site));
    row.set_severity(IsPinned(site) ? "medium" : "low");
    row.set_bytes(site.live_bytes());
    row.set_sentence(
        fmt::format("{} of {} allocations of this line were alive at the end: {} of {} memory that nothing had freed.",
                    FormatCount(site.live_allocations()), FormatCount(site.allocations()),
                    FormatBytes(site.live_bytes()), site.kind()));
    row.set_change(IsPinned(site) ? "cudaFreeHost or cudaHostUnregister each when it is done with, or keep one buffer"
                                  : "Free each when it is done with, or keep one buffer");
    findings->push_back(std::move(row));
  }
}

}  // namespace uvmtrace::analyzer
