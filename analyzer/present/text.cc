#include "analyzer/present/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <vector>

#include "analyzer/present/allocation_table.h"
#include "analyzer/present/text_writer.h"
#include "analyzer/short_name.h"
#include "analyzer/units.h"

namespace uvmtrace::analyzer {
namespace {

using Align = Table::Align;

// What the first screen does not say already.
void WriteVerdict(TextWriter* writer) {
  const Report& report = writer->report();
  std::vector<std::string> sentences;
  for (const std::string& sentence : report.verdict()) {
    if (sentence == report.headline() || sentence.rfind("SIMULATED", 0) == 0) continue;
    const bool finding = std::any_of(report.findings().begin(), report.findings().end(), [&sentence](const auto& row) {
      return sentence.size() > row.sentence().size() && sentence.rfind(row.title(), 0) == 0 &&
             sentence.compare(sentence.size() - row.sentence().size(), std::string::npos, row.sentence()) == 0;
    });
    if (!finding) sentences.push_back(sentence);
  }
  if (sentences.empty()) return;
  writer->Heading("IN WORDS");
  for (const std::string& sentence : sentences) writer->Paragraph(sentence, "  * ", "    ");
}

void WriteMemory(TextWriter* writer) {
  writer->Heading("MEMORY BY KIND");
  if (writer->Empty("memory")) return;
  Table table({{"kind", Align::kLeft},
               {"calls"},
               {"freed"},
               {"peak"},
               {"live at end"},
               {"total"},
               {"time in calls"},
               {"failed"}});
  for (const MemoryRow& row : writer->report().memory()) {
    table.AddRow({row.kind(), FormatCount(row.allocations()), FormatCount(row.frees()), FormatBytes(row.peak_bytes()),
                  FormatBytes(row.live_bytes()), FormatBytes(row.total_bytes()), FormatDuration(row.call_ns()),
                  row.failures() > 0 ? FormatCount(row.failures()) : ""});
  }
  writer->Add(table);
}

void WriteCalls(TextWriter* writer) {
  writer->Heading("CALLS");
  if (writer->Empty("calls")) return;
  Table table({{"count"}, {"failed"}, {"total"}, {"p50"}, {"p99"}, {"max"}, {"bytes"}, {"function", Align::kLeft}});
  size_t shown = 0;
  for (const CallRow& row : writer->report().calls()) {
    if (!writer->Within(shown++)) continue;
    table.AddRow({FormatCount(row.count()), row.failures() > 0 ? FormatCount(row.failures()) : "",
                  FormatDuration(row.total_ns()), FormatDuration(row.p50_ns()), FormatDuration(row.p99_ns()),
                  FormatDuration(row.max_ns()), row.bytes() > 0 ? FormatBytes(row.bytes()) : "",
                  Printable(row.name())});
  }
  writer->Add(table);
  if (writer->options().top > 0 && shown > writer->options().top) {
    writer->Paragraph(fmt::format("... and {} more functions (--top 0 shows all)", shown - writer->options().top));
  }
}

std::string Direction(const std::string& name) {
  if (name == "host_to_device") return "host to GPU";
  if (name == "device_to_host") return "GPU to host";
  if (name == "device_to_device") return "GPU to GPU";
  return name;
}

std::string Cause(const MigrationRow& row) {
  if (row.cause() == "coherence") return row.direction() == "device_to_host" ? "CPU page fault" : "page fault";
  if (row.cause() == "prefetch") return "driver's prefetcher";
  if (row.cause() == "user") return "prefetch call";
  if (row.cause() == "access_counters") return "access counters";
  if (row.cause() == "unknown" && !row.has_count()) return "in no window";
  return row.cause();
}

void WriteMigrations(TextWriter* writer) {
  writer->Heading("MIGRATIONS");
  if (writer->Empty("migrations")) {
    const Totals& totals = writer->report().totals();
    if (totals.host_to_device_bytes() + totals.device_to_host_bytes() > 0) {
      writer->Paragraph(fmt::format("As the driver counted, {} moved to the GPU and {} to the host.",
                                    FormatBytes(totals.host_to_device_bytes()),
                                    FormatBytes(totals.device_to_host_bytes())));
    }
    return;
  }
  Table table({{"direction", Align::kLeft},
               {"cause", Align::kLeft},
               {"bytes"},
               {"95 % interval"},
               {"copies"},
               {"mean"},
               {"busy"},
               {"throughput"}});
  bool estimated = false;
  for (const MigrationRow& row : writer->report().migrations()) {
    estimated |= row.estimated();
    table.AddRow({Direction(row.direction()), Cause(row), Estimated(FormatBytes(row.bytes()), row.estimated()),
                  row.estimated() ? FormatBytes(row.low_bytes()) + " - " + FormatBytes(row.high_bytes()) : "",
                  row.has_count() ? Estimated(FormatCount(row.count()), row.estimated()) : "",
                  row.has_count() ? FormatBytes(row.bytes() / std::max<uint64_t>(row.count(), 1)) : "",
                  row.has_busy_ns() ? Estimated(FormatDuration(row.busy_ns()), row.estimated()) : "",
                  row.has_bytes_per_second() ? FormatRate(row.bytes_per_second()) : ""});
  }
  writer->Add(table);
  const bool stamped = writer->report().capture().tool_cost().time_stamps_ns() > 0;
  writer->Paragraph(
      std::string("Busy is the union of the copies' intervals; throughput is bytes over that: the end-to-end "
                  "bandwidth of the migration service, not of the link") +
      (stamped ? ", and lower than without the time stamps that recording takes." : "."));
  if (!estimated) return;
  writer->Paragraph(
      "~ is an estimate: the bytes of a direction are the driver's own count, shared out as in the windows in which "
      "migrations were recorded. The interval is from the variance between the windows.");
}

void WriteAllocations(TextWriter* writer) {
  const bool anything = std::any_of(writer->report().allocations().begin(), writer->report().allocations().end(),
                                    [](const AllocationRow& row) {
                                      return row.gpu_fault_groups() + row.gpu_fault_entries() + row.cpu_faults() +
                                                 row.host_to_device_bytes() + row.device_to_host_bytes() >
                                             0;
                                    });
  if (writer->report().allocations_size() == 0) {
    writer->Heading("ALLOCATIONS");
    writer->Empty("allocations");
    return;
  }
  writer->Heading(anything ? "ALLOCATIONS BY BYTES MIGRATED" : "ALLOCATIONS BY SIZE");
  writer->Add(*AllocationTable(writer->report(), writer->options(), AllocationOrder::kByBytesMoved));
  if (const auto by_faults = AllocationTable(writer->report(), writer->options(), AllocationOrder::kByFaults)) {
    writer->Heading("ALLOCATIONS BY FAULTS");
    writer->Add(*by_faults);
  }
}

void WriteKernels(TextWriter* writer) {
  writer->Heading("KERNELS");
  if (writer->Empty("kernels")) return;
  Table table({{"launches"}, {"time"}, {"fault entries"}, {"fault groups"}, {"to GPU"}, {"kernel", Align::kLeft}});
  for (const KernelRow& row : writer->report().kernels()) {
    table.AddRow(
        {row.has_count() ? FormatCount(row.count()) : "", row.has_total_ns() ? FormatDuration(row.total_ns()) : "",
         row.gpu_fault_entries() > 0 ? FormatCount(row.gpu_fault_entries()) : "",
         row.gpu_fault_groups() > 0 ? FormatCount(row.gpu_fault_groups()) : "",
         row.host_to_device_bytes() > 0 ? Estimated(FormatBytes(row.host_to_device_bytes()), row.estimated()) : "",
         row.name() == "(no kernel)" ? "(while no recorded kernel ran)" : ShortName(Printable(row.name()))});
  }
  writer->Add(table);
  writer->Paragraph("Faults and bytes are laid on the kernel that ran on the same device when they started.");
}

void WriteOversubscription(TextWriter* writer) {
  const auto& fit = writer->report().oversubscription();
  writer->Heading("OVERSUBSCRIPTION");
  if (writer->Empty("oversubscription")) return;
  TextWriter::Facts facts;
  facts.push_back({FormatBytes(fit.managed_live_peak_bytes()), "managed memory alive at its peak"});
  if (fit.has_device_capacity_bytes()) {
    facts.push_back({FormatBytes(fit.device_capacity_bytes()), "of GPU memory in all"});
    facts.push_back(
        {FormatPercent(fit.peak_ratio()), "is the ratio of the two: above 100 % it cannot all be on the GPU"});
  }
  // A window that caught nothing says nothing.
  if (fit.has_evicted_bytes() && (fit.evicted_bytes() > 0 || !fit.estimated()))
    facts.push_back({Estimated(FormatBytes(fit.evicted_bytes()), fit.estimated()), "evicted to make room"});
  if (fit.has_refaulted_bytes()) {
    facts.push_back({FormatBytes(fit.refaulted_bytes()), "came back to a GPU after leaving it"});
  }
  writer->AddFacts(facts, Align::kRight);
}

void WriteProcesses(TextWriter* writer) {
  if (writer->report().processes_size() < 2) return;
  writer->Heading("PROCESSES");
  Table table({{"rank"},
               {"host", Align::kLeft},
               {"pid"},
               {"parent"},
               {"traced"},
               {"calls"},
               {"GPU entries"},
               {"GPU groups"},
               {"CPU faults"},
               {"to GPU"},
               {"to host"},
               {"user"},
               {"system"},
               {"end", Align::kLeft},
               {"file", Align::kLeft}});
  for (const ProcessRow& row : writer->report().processes()) {
    table.AddRow({row.rank(), Printable(row.host()), row.has_pid() ? std::to_string(row.pid()) : "",
                  row.has_parent_pid() ? std::to_string(row.parent_pid()) : "",
                  row.has_duration_ns() ? FormatDuration(row.duration_ns()) : "", FormatCount(row.api_calls()),
                  row.has_gpu_fault_entries() ? FormatCount(row.gpu_fault_entries()) : "",
                  row.has_gpu_fault_groups() ? FormatCount(row.gpu_fault_groups()) : "",
                  row.has_cpu_faults() ? FormatCount(row.cpu_faults()) : "",
                  row.has_host_to_device_bytes() ? FormatBytes(row.host_to_device_bytes()) : "",
                  row.has_device_to_host_bytes() ? FormatBytes(row.device_to_host_bytes()) : "",
                  row.has_user_ns() ? FormatDuration(row.user_ns()) : "",
                  row.has_system_ns() ? FormatDuration(row.system_ns()) : "", row.clean_end() ? "clean" : "cut off",
                  Printable(row.file())});
  }
  writer->Add(table);
}

void WriteNotSeen(TextWriter* writer) {
  writer->Heading("NOT SEEN");
  if (writer->report().not_seen_size() == 0) writer->Paragraph("nothing is known to be missing");
  for (const std::string& line : writer->report().not_seen()) writer->Paragraph(line, "  - ", "    ");
}

// What became of a file of changes.
void WriteApplied(TextWriter* writer) {
  bool headed = false;
  for (const SourceRow& source : writer->report().capture().sources()) {
    if (source.name().rfind("apply", 0) != 0) continue;
    if (!headed) writer->Heading("APPLIED");
    headed = true;
    const bool refused = source.name() == "apply" && source.state() != "active";
    writer->Paragraph((refused ? "nothing was applied: " : "") + source.reason(), "  - ", "    ");
  }
}

struct Section {
  const char* name;
  void (*write)(TextWriter*);
  bool asked_for = false;  // printed only where its name is given
};

// The report, from what to act on to where the numbers are from.
constexpr Section kSections[] = {
    {"out-of-memory", WriteOutOfMemory},
    {"summary", WriteFirstScreen},
    {"changes", WriteChanges, true},
    {"applied", WriteApplied},
    {"verdict", WriteVerdict},
    {"sites", WriteSites},
    {"tree", WriteTree, true},
    {"shared-pages", WriteSharedPages},
    {"calls-by-line", WriteCallSites},
    {"kernels-by-memory", WriteKernelSites},
    {"cpu-faults", WriteCpuFaultTargets},
    {"phases", WritePhases},
    {"traffic", WriteTraffic},
    {"over-time", WriteBandwidth},
    {"memory", WriteMemory},
    {"oversubscription", WriteOversubscription},
    {"faults", WriteFaults},
    {"migrations", WriteMigrations},
    {"kernels", WriteKernels},
    {"allocations", WriteAllocations},
    {"bottom-half", WriteBottomHalf},
    {"calls", WriteCalls},
    {"hazards", WriteHazards},
    {"processes", WriteProcesses},
    {"not-seen", WriteNotSeen},
    {"capture", WriteCapture},
};

bool IsWanted(const Section& section, const TextOptions& options) {
  if (options.tree && std::string_view(section.name) == "tree") return true;
  if (options.sections.empty()) return !section.asked_for;
  return std::find(options.sections.begin(), options.sections.end(), section.name) != options.sections.end();
}

}  // namespace

std::vector<std::string> SectionNames() {
  std::vector<std::string> names;
  for (const Section& section : kSections) names.emplace_back(section.name);
  return names;
}

std::string RenderText(const Report& report, const TextOptions& options) {
  TextWriter writer(report, options);
  for (const Section& section : kSections) {
    if (IsWanted(section, options)) section.write(&writer);
  }
  return writer.Take();
}

}  // namespace uvmtrace::analyzer
