// Findings about the machine and the recording: memory that did not fit, accesses that the driver refused, its thread
// that got no core, events that were lost.
#include <fmt/format.h>

#include <algorithm>

#include "analyzer/explain/finding_rules.h"
#include "analyzer/units.h"

namespace uvmtrace::analyzer {

void OutOfMemory(const Evidence& evidence, Findings* findings) {
  for (const OutOfMemoryRow& failed : evidence.report().out_of_memory()) {
    FindingRow row =
        MakeFinding("It did not fit", "", failed.site().empty() ? failed.function() : PlaceOf(failed.site()));
    row.set_severity("error");
    row.set_bytes(failed.asked_bytes());
    std::string sentence = failed.cause();
    if (sentence.empty()) {
      sentence = fmt::format("{} failed ({})", failed.function(), Times(std::max<uint64_t>(failed.count(), 1)));
      if (failed.has_asked_bytes()) sentence += fmt::format(": {} were asked for", FormatBytes(failed.asked_bytes()));
      if (failed.has_free_bytes()) {
        sentence +=
            fmt::format(" and {} of {} were free", FormatBytes(failed.free_bytes()), FormatBytes(failed.total_bytes()));
      }
    }
    if (sentence.back() != '.') sentence += '.';
    if (failed.holders_size() > 0) {
      const HolderRow& holder = failed.holders(0);
      sentence += fmt::format(
          " The largest holder was {}: {} of {} memory in {}.", PlaceOf(holder.site()), FormatBytes(holder.bytes()),
          holder.kind(),
          holder.allocations() == 1 ? "one allocation" : FormatCount(holder.allocations()) + " allocations");
      if (!holder.key().empty()) row.add_evidence(holder.key());
      row.set_change(failed.reserved_unused_bytes() >= failed.asked_bytes() && failed.asked_bytes() > 0
                         ? fmt::format("Give back what pools reserve and do not use, {} of it: cudaMemPoolTrimTo, or "
                                       "empty_cache() in PyTorch",
                                       FormatBytes(failed.reserved_unused_bytes()))
                         : fmt::format("Free or shrink the memory of {} before {}", LineOf(holder.site()),
                                       failed.site().empty() ? "this call" : LineOf(failed.site())));
    }
    row.set_sentence(sentence);
    findings->push_back(std::move(row));
  }
}

void FatalFaults(const Evidence& evidence, Findings* findings) {
  const Report& report = evidence.report();
  const uint64_t count = report.totals().fatal_faults();
  if (count == 0) return;
  const FatalFaultRow* first = report.fatal_faults_size() > 0 ? &report.fatal_faults(0) : nullptr;
  FindingRow row = MakeFinding("Correct the access that the driver refused", "",
                               first == nullptr || first->site().empty() ? "memory of no known allocation"
                                                                         : "memory of " + PlaceOf(first->site()));
  row.set_severity("error");
  std::string sentence = count == 1 ? "The driver could not serve an access"
                                    : fmt::format("The driver could not serve {} accesses", FormatCount(count));
  if (first != nullptr) {
    sentence +=
        fmt::format("{}{} to {:#x}: {}", count > 1 ? "; the first is one" : "",
                    first->processor().empty() ? "" : " of " + first->processor(), first->address(), first->reason());
  }
  row.set_sentence(sentence + ". CUDA calls fail from then on.");
  row.set_change(
      "Look for an index beyond the allocation's end, a freed or unmapped address, or a write to read-only memory");
  findings->push_back(std::move(row));
}

void BottomHalfStarved(const Evidence& evidence, Findings* findings) {
  constexpr uint64_t kLongNs = 5'000'000;
  for (const BottomHalfRow& thread : evidence.report().bh_threads()) {
    if (!thread.has_wait_ns() || thread.wait_ns() < kLongNs || thread.wait_ns() * 5 < thread.cpu_ns()) continue;
    FindingRow row = MakeFinding("Give the driver's thread a core", "", thread.name());
    SetCost(evidence, CostBase::kRun, thread.wait_ns(), &row);
    SetGain(evidence, thread.wait_ns(), "the thread runs as soon as it can", &row);
    row.set_sentence(fmt::format(
        "{} waited {} for a core while it worked for {}: other threads competed with it, and each of its batches keeps "
        "a GPU waiting.",
        thread.name(), FormatDuration(thread.wait_ns()), FormatDuration(thread.cpu_ns())));
    row.set_change(
        fmt::format("As root: renice -n -15 -p $(pgrep -f '{}'), or fewer busy threads than cores", thread.name()));
    findings->push_back(std::move(row));
  }
}

void LostEvents(const Evidence& evidence, Findings* findings) {
  const Capture& capture = evidence.report().capture();
  uint64_t lost = 0;
  const LostRow* worst = nullptr;
  for (const LostRow& row : capture.lost()) {
    if (row.reason().rfind("bytes ", 0) == 0) continue;
    lost += row.count();
    if (worst == nullptr || row.count() > worst->count()) worst = &row;
  }
  if (lost == 0) return;
  FindingRow row = MakeFinding("Record without losses", "", worst->source());
  row.set_severity("note");
  row.set_sentence(fmt::format("{} events were lost while recording (most of {}: {}): numbers are lower bounds.",
                               FormatCount(lost), worst->source(), worst->reason()));
  row.set_change("UVMTRACE_BUFFER_MB=256, or UVMTRACE_DETAIL=light");
  findings->push_back(std::move(row));
}

}  // namespace uvmtrace::analyzer
