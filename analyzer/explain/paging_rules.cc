// Findings about faults and migrations: memory that came by faults where a call would bring it, and memory that travels
// again and again.
#include <fmt/format.h>

#include <algorithm>

#include "analyzer/explain/finding_rules.h"
#include "analyzer/units.h"

namespace uvmtrace::analyzer {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr double kWorthTelling = 0.01;  // of the GPU's time

// Bytes that came to a GPU by faults, by what had become of the memory before.
struct FaultedBytes {
  uint64_t all = 0;
  uint64_t after_cpu = 0;       // the CPU had touched it in between
  uint64_t after_eviction = 0;  // the driver had evicted it
  uint64_t other() const { return all - after_cpu - after_eviction; }
};

FaultedBytes FaultedOf(const SiteRow& site) {
  FaultedBytes bytes;
  bytes.all = site.faulted_bytes();
  bytes.after_eviction = std::min(bytes.all, site.refaulted_after_eviction_bytes());
  bytes.after_cpu = std::min(bytes.all - bytes.after_eviction, site.refaulted_after_cpu_bytes());
  return bytes;
}

uint64_t PartOf(uint64_t value, uint64_t part, uint64_t whole) {
  return static_cast<uint64_t>(static_cast<double>(value) * Share(part, whole));
}

bool Matters(const Evidence& evidence, uint64_t cost_ns, uint64_t bytes) {
  return Share(cost_ns, evidence.gpu_time_ns()) >= kWorthTelling || bytes >= 16 * kMiB;
}

bool IsPython(const std::string& site) { return site.find(".py:") != std::string::npos; }

std::string PrefetchCall(const SiteRow& site, const std::string& where) {
  const std::string pointer = site.name().empty() ? "ptr" : site.name();
  const std::string call =
      IsPython(site.site()) ? "cupy.cuda.runtime.memPrefetchAsync" : std::string("cudaMemPrefetchAsync");
  return fmt::format("{}({}, {}, {}, stream)", call, pointer, BytesOfOne(site), where);
}

std::string UsedBy(const Evidence& evidence, const SiteRow& site) {
  const std::string kernel = evidence.KernelOn(site);
  return kernel.empty() ? "" : ", used by " + kernel;
}

// "by 45,605 fault entries, at 3.60 GB/s while the GPU waited 74.4 ms"
std::string FaultedIn(const Evidence& evidence, const SiteRow& site, uint64_t bytes, uint64_t waited_ns) {
  std::string text = fmt::format("{} came in because of faults ({})", FormatBytes(bytes), evidence.Faults(site));
  if (waited_ns == 0) return text + "; how long the GPU waited for them is not known";
  text += fmt::format(", and the GPU waited {} for them: {}", FormatDuration(waited_ns),
                      FormatRate(static_cast<double>(bytes) * 1e9 / static_cast<double>(waited_ns)));
  return text;
}

std::vector<const CallSiteRow*> PrefetchesToGpu(const Evidence& evidence, const SiteRow& site) {
  std::vector<const CallSiteRow*> calls = evidence.CallsOn(site.key(), "prefetch");
  calls.erase(std::remove_if(calls.begin(), calls.end(), [](const auto* call) { return call->location() < 0; }),
              calls.end());
  return calls;
}

// Whether a prefetch found the memory there because faults had brought it.
bool CameTooLate(const CallSiteRow& call, const SiteRow& site, const FaultedBytes& bytes) {
  if (!call.has_moved_bytes() || site.prefetched_bytes() * 2 >= bytes.other()) return false;
  return call.moved_bytes() * 2 < std::min(call.bytes(), bytes.other());
}

void SetGainByBulkCopy(const Evidence& evidence, uint64_t cost_ns, uint64_t bytes, FindingRow* row) {
  SetCost(evidence, CostBase::kGpuTime, cost_ns, row);
  bool known = false;
  const uint64_t copy_ns = BulkCopyNs(evidence, bytes, &known);
  if (known && cost_ns > copy_ns) {
    SetGain(evidence, cost_ns - copy_ns,
            fmt::format("{} {}, before the kernel instead of inside it",
                        FormatRate(evidence.BulkRate()->bytes_per_second), evidence.BulkRate()->words),
            row);
  }
}

std::string RateOfThisRun(const Evidence& evidence) {
  const auto rate = evidence.BulkRate();
  if (!rate) return "";
  return fmt::format(" Bulk copies go at {}, {}.", FormatRate(rate->bytes_per_second), rate->words);
}

}  // namespace

void PrefetchBeforeLaunch(const Evidence& evidence, Findings* findings) {
  for (const SiteRow& site : evidence.lines()) {
    const FaultedBytes bytes = FaultedOf(site);
    if (bytes.other() == 0 || IsSparse(site) || bytes.other() * 4 < bytes.all) continue;
    const uint64_t waited_ns = PartOf(WaitedNs(evidence, site), bytes.other(), bytes.all);
    if (!Matters(evidence, waited_ns, bytes.other())) continue;
    // Where the program prefetches it to a GPU already, those calls are what to change.
    if (site.prefetched_bytes() > 0 || !PrefetchesToGpu(evidence, site).empty()) continue;
    FindingRow row = MakeFinding("Prefetch before the launch", site.key(), PlaceOf(site) + UsedBy(evidence, site));
    row.set_bytes(bytes.other());
    SetGainByBulkCopy(evidence, waited_ns, bytes.other(), &row);
    row.set_sentence(FaultedIn(evidence, site, bytes.other(), waited_ns) + "." + RateOfThisRun(evidence));
    const std::string kernel = evidence.KernelOn(site);
    row.set_change(fmt::format("Add {} before the launch{}", PrefetchCall(site, "the GPU"),
                               kernel.empty() ? "" : " of " + kernel));
    findings->push_back(std::move(row));
  }
}

void PrefetchAllOfIt(const Evidence& evidence, Findings* findings) {
  for (const SiteRow& site : evidence.lines()) {
    const FaultedBytes bytes = FaultedOf(site);
    if (site.prefetched_bytes() == 0 || bytes.other() < kMiB || bytes.other() * 10 < site.prefetched_bytes()) continue;
    const CallSiteRow* largest = nullptr;
    bool late = false;
    for (const CallSiteRow* call : PrefetchesToGpu(evidence, site)) {
      if (largest == nullptr || call->bytes() > largest->bytes()) largest = call;
      late |= CameTooLate(*call, site, bytes);
    }
    if (late) continue;
    const uint64_t waited_ns = PartOf(WaitedNs(evidence, site), bytes.other(), bytes.all);
    if (!Matters(evidence, waited_ns, bytes.other())) continue;
    FindingRow row = MakeFinding("Prefetch all of it", site.key(),
                                 (largest == nullptr ? PlaceOf(site) : PlaceOf(*largest)) + UsedBy(evidence, site));
    row.set_bytes(bytes.other());
    SetGainByBulkCopy(evidence, waited_ns, bytes.other(), &row);
    std::string calls;
    if (largest != nullptr && largest->count() > 0) {
      calls = fmt::format(" {} was called {} with {} on average; memory of {} is {} each.", largest->function(),
                          Times(largest->count()), FormatBytes(largest->bytes() / largest->count()), LineOf(site),
                          BytesOfOne(site));
    }
    row.set_sentence(fmt::format("Prefetch calls moved {} of this memory to the GPU, but {}.{}",
                                 FormatBytes(site.prefetched_bytes()),
                                 FaultedIn(evidence, site, bytes.other(), waited_ns), calls));
    row.set_change("Check the size in bytes and the range: " + PrefetchCall(site, "the GPU") + " before the launch");
    if (largest != nullptr) row.add_evidence(largest->key());
    findings->push_back(std::move(row));
  }
}

void PrefetchEarlier(const Evidence& evidence, Findings* findings) {
  for (const SiteRow& site : evidence.lines()) {
    const FaultedBytes bytes = FaultedOf(site);
    if (bytes.other() < kMiB) continue;
    for (const CallSiteRow* call : PrefetchesToGpu(evidence, site)) {
      if (!CameTooLate(*call, site, bytes)) continue;
      const uint64_t waited_ns = PartOf(WaitedNs(evidence, site), bytes.other(), bytes.all);
      if (!Matters(evidence, waited_ns, bytes.other())) continue;
      FindingRow row =
          MakeFinding("Prefetch earlier: before the launch", call->key(), PlaceOf(*call) + UsedBy(evidence, site));
      row.add_evidence(site.key());
      row.set_bytes(bytes.other());
      SetGainByBulkCopy(evidence, waited_ns, bytes.other(), &row);
      row.set_sentence(fmt::format(
          "{} asked for {} in {}, and {} moved: the memory had come before. {}.", call->function(),
          FormatBytes(call->bytes()), call->count() == 1 ? "one call" : FormatCount(call->count()) + " calls",
          FormatBytes(call->moved_bytes()), FaultedIn(evidence, site, bytes.other(), waited_ns)));
      row.set_change(
          fmt::format("Call it before the launch that uses {}, in the same stream, or in another one that the "
                      "launch waits for",
                      LineOf(site)));
      findings->push_back(std::move(row));
    }
  }
}

void PingPong(const Evidence& evidence, Findings* findings) {
  for (const SiteRow& site : evidence.lines()) {
    const uint64_t bytes = site.refaulted_after_cpu_bytes();
    if (bytes == 0) continue;
    const uint64_t moved = std::max(site.host_to_device_bytes(), bytes);
    const uint64_t cost_ns = PartOf(WaitedNs(evidence, site), std::min(bytes, site.faulted_bytes()),
                                    std::max<uint64_t>(site.faulted_bytes(), 1)) +
                             PartOf(evidence.MigrationBusyNs("device_to_host", "coherence") +
                                        evidence.MigrationBusyNs("device_to_host", "prefetch"),
                                    site.device_to_host_bytes(), evidence.report().totals().device_to_host_bytes());
    // A page or two that come back are no pattern.
    const bool time = Share(cost_ns, evidence.gpu_time_ns()) >= kWorthTelling;
    if (!time && (bytes < kMiB || bytes * 10 < moved)) continue;
    const bool only_read = site.reads() > 0 && site.writes() + site.atomics() == 0;
    const CpuFaultTargetRow* toucher = evidence.CpuToucher(site.key());
    FindingRow row =
        MakeFinding(only_read ? "Let both sides keep a copy of what is only read" : "Keep it on one side", site.key(),
                    PlaceOf(site) + (toucher == nullptr ? "" : ", touched on the CPU at " + PlaceOf(toucher->site())));
    if (only_read) row.set_id("read_mostly_missing");
    row.set_bytes(bytes);
    SetCost(evidence, CostBase::kGpuTime, cost_ns, &row);
    const uint64_t turns = site.peak_bytes() > 0 ? bytes / std::max<uint64_t>(site.peak_bytes(), 1) : 0;
    row.set_sentence(fmt::format(
        "The CPU and the GPU take turns on this memory (ping-pong): {} came back to the GPU after the CPU had touched "
        "it{}, {} went to the host, in {}{}.",
        FormatBytes(bytes), turns > 1 ? fmt::format(", {} times its size", FormatCount(turns)) : "",
        FormatBytes(site.device_to_host_bytes()), evidence.Faults(site),
        site.cpu_faults() > 0 ? fmt::format(" and {} CPU faults", FormatCount(site.cpu_faults())) : ""));
    SetGain(evidence, cost_ns, "none of these turns are needed", &row);
    if (only_read) {
      row.set_change(fmt::format(
          "If the CPU only reads it as well: cudaMemAdvise({}, {}, cudaMemAdviseSetReadMostly, 0) once, after it was "
          "written",
          site.name().empty() ? "ptr" : site.name(), BytesOfOne(site)));
    } else {
      row.set_change(
          fmt::format("Do {} on the GPU, or give the CPU a copy of its own of what it needs; where both must have it, "
                      "cudaMemPrefetchAsync to the host before the CPU's turn and to the GPU before the launch",
                      toucher == nullptr ? "the CPU's part" : "what " + LineOf(toucher->site()) + " does"));
    }
    findings->push_back(std::move(row));
  }
}

void DoNotSendBack(const Evidence& evidence, Findings* findings) {
  for (const SiteRow& site : evidence.lines()) {
    const uint64_t bytes = site.refaulted_after_call_bytes();
    if (bytes < kMiB || bytes * 10 < site.host_to_device_bytes()) continue;
    const CallSiteRow* sender = nullptr;
    for (const CallSiteRow* call : evidence.CallsOn(site.key(), "prefetch")) {
      if (call->location() < 0 && (sender == nullptr || call->moved_bytes() > sender->moved_bytes())) sender = call;
    }
    FindingRow row = MakeFinding("Do not send back what comes again", sender == nullptr ? site.key() : sender->key(),
                                 sender == nullptr ? PlaceOf(site) : PlaceOf(*sender));
    if (sender != nullptr) row.add_evidence(site.key());
    row.set_bytes(bytes);
    const uint64_t sent = std::max(bytes, sender == nullptr ? 0 : sender->moved_bytes());
    bool known = false;
    const uint64_t cost_ns = BulkCopyNs(evidence, sent + bytes, &known);
    if (known) {
      SetCost(evidence, CostBase::kRun, cost_ns, &row);
      SetGain(evidence, cost_ns,
              fmt::format("both ways at {}, {}", FormatRate(evidence.BulkRate()->bytes_per_second),
                          evidence.BulkRate()->words),
              &row);
    }
    row.set_sentence(fmt::format(
        "{} of the {} that came to the GPU had been there before: the program's own prefetch to the host{} had sent "
        "{} away.",
        FormatBytes(bytes), FormatBytes(std::max(bytes, site.host_to_device_bytes())),
        sender == nullptr ? "" : " at " + LineOf(sender->site()), FormatBytes(sent)));
    row.set_change(fmt::format("Leave out the prefetch to the host{} where the GPU uses the memory again",
                               sender == nullptr ? "" : " at " + LineOf(sender->site())));
    findings->push_back(std::move(row));
  }
}

void OversubscribedStreaming(const Evidence& evidence, Findings* findings) {
  const Report& report = evidence.report();
  const SiteRow* worst = nullptr;
  uint64_t came_back = 0;
  uint64_t waited_ns = 0;
  for (const SiteRow& site : evidence.lines()) {
    const uint64_t bytes = site.refaulted_after_eviction_bytes();
    came_back += bytes;
    waited_ns += PartOf(WaitedNs(evidence, site), std::min(bytes, site.faulted_bytes()),
                        std::max<uint64_t>(site.faulted_bytes(), 1));
    if (bytes > 0 && (worst == nullptr || bytes > worst->refaulted_after_eviction_bytes())) worst = &site;
  }
  if (worst == nullptr || came_back < kMiB || came_back * 20 < report.totals().host_to_device_bytes()) return;
  std::string over;
  for (const CapacityRow& row : report.capacity()) {
    const uint64_t taken = row.plain_bytes() + row.others_bytes();
    const uint64_t room = row.total_bytes() > taken ? row.total_bytes() - taken : 0;
    if (row.managed_peak_bytes() <= room || room == 0) continue;
    over = fmt::format(" {} of managed memory were used on {}, which had room for {}: {} too many.",
                       FormatBytes(row.managed_peak_bytes()), evidence.DeviceName(row.device()), FormatBytes(room),
                       FormatBytes(row.managed_peak_bytes() - room));
    break;
  }
  const std::string kernel = evidence.KernelOn(*worst);
  FindingRow row = MakeFinding("Work in pieces that fit the GPU", worst->key(),
                               PlaceOf(*worst) + (kernel.empty() ? "" : ", used by " + kernel));
  row.set_bytes(came_back);
  SetCost(evidence, CostBase::kGpuTime, waited_ns, &row);
  row.set_sentence(
      fmt::format("The memory that is in use does not fit: {} were evicted to make room and {} of that came back{}.{}",
                  FormatBytes(report.totals().evicted_bytes()), FormatBytes(came_back),
                  waited_ns > 0 ? fmt::format(", for which the GPU waited {}", FormatDuration(waited_ns)) : "", over));
  SetGain(evidence, waited_ns, "a piece is used up before the next one comes", &row);
  row.set_change(
      "Finish with a piece before the next one, and prefetch the next beside it; or let the part that is read once "
      "stay "
      "on the host: cudaMemAdviseSetPreferredLocation to the CPU and cudaMemAdviseSetAccessedBy the GPU");
  findings->push_back(std::move(row));
}

void SparseAccess(const Evidence& evidence, Findings* findings) {
  for (const SiteRow& site : evidence.lines()) {
    const uint64_t waited_ns = WaitedNs(evidence, site);
    if (!IsSparse(site) || FaultCount(site) == 0 || !Matters(evidence, waited_ns, site.faulted_bytes())) continue;
    const std::string kernel = evidence.KernelOn(site);
    FindingRow row = MakeFinding("Read scattered memory in place, or gather it first", site.key(),
                                 PlaceOf(site) + (kernel.empty() ? "" : ", used by " + kernel));
    row.set_bytes(site.faulted_bytes());
    SetCost(evidence, CostBase::kGpuTime, waited_ns, &row);
    row.set_sentence(fmt::format("The GPU uses this memory here and there ({}): {}, of {} allocated.", site.pattern(),
                                 FaultedIn(evidence, site, site.faulted_bytes(), waited_ns),
                                 FormatBytes(site.total_bytes())));
    row.set_change(fmt::format(
        "cudaMemAdvise({0}, {1}, cudaMemAdviseSetPreferredLocation, CPU) and cudaMemAdvise({0}, {1}, "
        "cudaMemAdviseSetAccessedBy, GPU): the GPU then reads it over the link without a fault; where it is used "
        "again, prefetch it whole",
        site.name().empty() ? "ptr" : site.name(), BytesOfOne(site)));
    findings->push_back(std::move(row));
  }
}

void ManagedNeverMigrates(const Evidence& evidence, Findings* findings) {
  for (const SiteRow& site : evidence.lines()) {
    if (site.kind() != "managed" || !site.has_host_to_device_bytes()) continue;
    const uint64_t moved = site.host_to_device_bytes() + site.device_to_host_bytes() + site.device_to_device_bytes();
    const uint64_t waited_ns = WaitedNs(evidence, site);
    if (moved > 0 || site.cpu_faults() > 0 || FaultCount(site) == 0) continue;
    if (site.remote_mapped_bytes() > 0 || !Matters(evidence, waited_ns, 0)) continue;
    FindingRow row = MakeFinding("Allocate what only the GPU uses with cudaMalloc", site.key(), PlaceOf(site));
    row.set_bytes(site.total_bytes());
    SetCost(evidence, CostBase::kGpuTime, waited_ns, &row);
    SetGain(evidence, waited_ns, "memory of cudaMalloc has its pages before the kernel starts", &row);
    row.set_sentence(fmt::format(
        "{} of managed memory were touched by the GPU alone: nothing moved, and {} were spent on {} that only gave it "
        "its first pages.",
        FormatBytes(site.total_bytes()), FormatDuration(waited_ns), evidence.Faults(site)));
    row.set_change(fmt::format("cudaMalloc(&ptr, {}) in the place of cudaMallocManaged; or {} before the first launch",
                               BytesOfOne(site), PrefetchCall(site, "the GPU")));
    findings->push_back(std::move(row));
  }
}

void ManagedUnused(const Evidence& evidence, Findings* findings) {
  for (const SiteRow& site : evidence.lines()) {
    // Only where faults and bytes were recorded can nothing be said to have happened.
    if (site.kind() != "managed" || !site.has_host_to_device_bytes() || !site.has_cpu_faults()) continue;
    const uint64_t touched = site.host_to_device_bytes() + site.device_to_host_bytes() + site.device_to_device_bytes() +
                             site.cpu_faults() + FaultCount(site) + site.remote_mapped_bytes() +
                             site.prefetched_bytes();
    if (touched > 0 || site.peak_bytes() < 64 * kMiB) continue;
    if (!evidence.CallsOn(site.key(), "copy").empty() || !evidence.CallsOn(site.key(), "set").empty()) continue;
    FindingRow row = MakeFinding("Leave out what nothing touches", site.key(), PlaceOf(site));
    row.set_severity("note");
    row.set_bytes(site.peak_bytes());
    row.set_sentence(fmt::format("No fault and no copy concerned {} of managed memory: nothing used it.",
                                 FormatBytes(site.peak_bytes())));
    row.set_change("Allocate it when it is needed; managed memory that nothing touches takes addresses, and no pages");
    findings->push_back(std::move(row));
  }
}

}  // namespace uvmtrace::analyzer
