// Faults: the three counts of them side by side, batches, the code that touched from the CPU, and what was fatal.
#include <fmt/format.h>

#include <algorithm>

#include "analyzer/present/text_writer.h"
#include "analyzer/short_name.h"
#include "analyzer/units.h"

namespace uvmtrace::analyzer {
namespace {

using Align = Table::Align;

std::string Count(bool known, uint64_t value) { return known ? FormatCount(value) : ""; }

// The counts of the whole run, each with what it is.
void WriteCounts(TextWriter* writer) {
  const Totals& totals = writer->report().totals();
  const FaultCounts& all = writer->report().fault_definitions().all();
  TextWriter::Facts facts;
  const auto fact = [&facts](const std::string& number, const std::string& words) {
    facts.emplace_back(number, words);
  };
  if (totals.has_fatal_faults() && totals.fatal_faults() > 0) {
    fact(FormatCount(totals.fatal_faults()), std::string(totals.fatal_faults() == 1 ? "access" : "accesses") +
                                                 " that the driver could not serve: see FATAL FAULTS");
  }
  if (totals.has_gpu_fault_entries()) {
    fact(FormatCount(totals.gpu_fault_entries()),
         "entries of the GPU's fault buffer: one from each unit that waited for a page, again after each replay");
  }
  if (totals.has_gpu_faults()) {
    fact(FormatCount(totals.gpu_faults()),
         "GPU faults, as the driver counts them: entries left after merging those of one page" +
             (all.has_duplicates_ratio() ? fmt::format(" ({} were duplicates)", FormatPercent(all.duplicates_ratio()))
                                         : std::string()));
  }
  // Two definitions of a fault are enough on a page: the manual has the third.
  if (totals.has_gpu_fault_groups() && !totals.has_gpu_fault_entries()) {
    fact(FormatCount(totals.gpu_fault_groups()), "GPU fault groups, as CUPTI counts them: faults of one page merged");
  }
  if (totals.has_fault_batches()) {
    fact(FormatCount(totals.fault_batches()), "batches, in which the driver services them, with one replay at the end");
  }
  if (totals.has_fault_service_ns()) {
    fact(FormatDuration(totals.fault_service_ns()), "in which a GPU waited on its faults (union of the batches)");
  }
  if (totals.has_cpu_faults()) {
    fact(FormatCount(totals.cpu_faults()), totals.cpu_faults() == 1 ? "CPU page fault" : "CPU page faults");
  }
  if (totals.thrashing_events() > 0) {
    fact(FormatCount(totals.thrashing_events()), "times the driver saw CPU-GPU ping-pong (its \"thrashing\" event)");
  }
  if (totals.throttling_events() > 0) {
    fact(FormatCount(totals.throttling_events()), "times it throttled a processor for that");
  }
  if (totals.remote_mapped_bytes() > 0) {
    fact(FormatBytes(totals.remote_mapped_bytes()), "mapped across the link instead of migrated");
  }
  if (totals.read_duplicated_bytes() > 0) {
    fact(FormatBytes(totals.read_duplicated_bytes()), "copied as read-mostly pages");
  }
  if (totals.read_duplicate_invalidated_bytes() > 0) {
    fact(FormatBytes(totals.read_duplicate_invalidated_bytes()), "of such copies taken away again by a write");
  }
  writer->AddFacts(facts, Align::kRight);
}

void WriteBatches(TextWriter* writer, const FaultCounts& counts) {
  if (!counts.has_batch_entries_p50()) return;
  writer->Line("");
  Table table({{"a batch", Align::kLeft}, {"mean"}, {"p50"}, {"p99"}, {"max"}});
  table.AddRow({"entries", fmt::format("{:.1f}", counts.entries_per_batch()), FormatCount(counts.batch_entries_p50()),
                FormatCount(counts.batch_entries_p99()), FormatCount(counts.batch_entries_max())});
  if (counts.has_service_p50_ns()) {
    table.AddRow({"service time", "", FormatDuration(counts.service_p50_ns()), FormatDuration(counts.service_p99_ns()),
                  FormatDuration(counts.service_max_ns())});
  }
  writer->Add(table);
  std::string sizes;
  uint64_t above = 0;
  for (const HistogramBucket& bucket : counts.batch_entries()) {
    if (bucket.count() > 0) {
      const std::string range = bucket.up_to() <= above + 1
                                    ? FormatCount(bucket.up_to())
                                    : FormatCount(above + 1) + "-" + FormatCount(bucket.up_to());
      sizes += (sizes.empty() ? "" : ", ") + fmt::format("{} of {}", FormatCount(bucket.count()), range);
    }
    above = bucket.up_to();
  }
  writer->Paragraph("Batches by entries: " + sizes + ".");
  writer->Paragraph("Service time runs from the driver's first look at a batch to its (last) replay.");
  if (counts.batches_without_replay() > 0) {
    writer->Paragraph(Plural(counts.batches_without_replay(), "batch has", "batches have") +
                      " no replay in the trace, and so no service time.");
  }
}

void WriteAccesses(TextWriter* writer, const FaultCounts& counts) {
  const uint64_t all =
      counts.reads() + counts.writes() + counts.atomics() + counts.prefetches() + counts.unknown_accesses();
  if (all == 0) return;
  std::string text;
  for (const auto& [count, words] :
       {std::pair(counts.reads(), "read"), std::pair(counts.writes(), "write"), std::pair(counts.atomics(), "atomic"),
        std::pair(counts.prefetches(), "prefetch"), std::pair(counts.unknown_accesses(), "unknown access")}) {
    if (count == 0) continue;
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ",
                        FormatPercent(static_cast<double>(count) / static_cast<double>(all)), words);
  }
  writer->Paragraph("Entries by access: " + text + ".");
}

void WriteDevices(TextWriter* writer) {
  const auto& devices = writer->report().fault_definitions().devices();
  if (devices.size() < 2) return;
  writer->Line("");
  Table table({{"", Align::kLeft},
               {"entries"},
               {"faults"},
               {"groups"},
               {"duplicates"},
               {"batches"},
               {"service p50"},
               {"p99"},
               {"waited"}});
  for (const FaultCounts& counts : devices) {
    table.AddRow({writer->DeviceName(counts.device()), Count(counts.has_entries(), counts.entries()),
                  Count(counts.has_coalesced_faults(), counts.coalesced_faults()),
                  Count(counts.has_fault_groups(), counts.fault_groups()),
                  counts.has_duplicates_ratio() ? FormatPercent(counts.duplicates_ratio()) : "",
                  Count(counts.has_batches(), counts.batches()),
                  counts.has_service_p50_ns() ? FormatDuration(counts.service_p50_ns()) : "",
                  counts.has_service_p99_ns() ? FormatDuration(counts.service_p99_ns()) : "",
                  counts.has_service_ns() ? FormatDuration(counts.service_ns()) : ""});
  }
  writer->Add(table);
}

void WriteFatalFaults(TextWriter* writer) {
  const Report& report = writer->report();
  if (report.fatal_faults_size() == 0) return;
  writer->Heading("FATAL FAULTS");
  Table table({{"at"}, {"pid"}, {"by", Align::kLeft}, {"address"}, {"memory", Align::kLeft}, {"why", Align::kLeft}});
  for (const FatalFaultRow& row : report.fatal_faults()) {
    const std::string memory = row.kind().empty()   ? "no known allocation"
                               : row.site().empty() ? row.kind()
                                                    : row.kind() + ", " + ShortName(Printable(row.site()));
    table.AddRow({row.has_time_ns() ? FormatDuration(row.time_ns()) : "",
                  row.has_pid() ? std::to_string(row.pid()) : "", row.processor(), fmt::format("{:#x}", row.address()),
                  memory, Printable(row.reason())});
  }
  writer->Add(table);
  const uint64_t all = report.totals().fatal_faults();
  if (all > static_cast<uint64_t>(report.fatal_faults_size())) {
    writer->Paragraph(
        fmt::format("... and {} more", FormatCount(all - static_cast<uint64_t>(report.fatal_faults_size()))));
  }
}

void WriteCpuFaultSites(TextWriter* writer) {
  const Report& report = writer->report();
  if (report.cpu_fault_sites_size() == 0) {
    const std::string reason = writer->ReasonOf("cpu_fault_sites");
    if (report.totals().cpu_faults() > 0 && !reason.empty()) {
      writer->Paragraph("Which code the CPU faults came from is not known: " + reason + ".");
    }
    return;
  }
  writer->Heading("CPU FAULTS BY CODE");
  Table table({{"faults"}, {"thread", Align::kLeft}, {"pid"}, {"touched in", Align::kLeft}});
  for (const CpuFaultSiteRow& row : report.cpu_fault_sites()) {
    std::string thread = Printable(row.thread());
    if (row.has_tid()) thread += (thread.empty() ? "" : " ") + fmt::format("({})", row.tid());
    table.AddRow({FormatCount(row.faults()), thread, row.has_pid() ? std::to_string(row.pid()) : "",
                  ShortName(Printable(row.site()))});
  }
  writer->Add(table);
}

}  // namespace

void WriteFaults(TextWriter* writer) {
  writer->Heading("FAULTS");
  if (!writer->Empty("faults")) {
    WriteCounts(writer);
    const FaultCounts& all = writer->report().fault_definitions().all();
    WriteAccesses(writer, all);
    WriteBatches(writer, all);
    WriteDevices(writer);
  }
  WriteCpuFaultSites(writer);
  WriteFatalFaults(writer);
}

}  // namespace uvmtrace::analyzer
