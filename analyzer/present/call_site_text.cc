// Calls by line, kernels by memory, the code of the CPU by memory, and phases.
#include <fmt/format.h>

#include <algorithm>

#include "analyzer/explain/evidence.h"
#include "analyzer/present/text_writer.h"
#include "analyzer/short_name.h"
#include "analyzer/units.h"

namespace uvmtrace::analyzer {
namespace {

using Align = Table::Align;

std::string Bytes(uint64_t value) { return value > 0 ? FormatBytes(value) : ""; }
std::string Count(uint64_t value) { return value > 0 ? FormatCount(value) : ""; }
std::string Time(uint64_t value) { return value > 0 ? FormatDuration(value) : ""; }

std::string Target(const std::string& key, const std::string& site) {
  if (key == "unattributed") return "(not known whose)";
  return Printable(site.empty() ? "" : PlaceOf(site));
}

// "to GPU 0, read mostly"
std::string Details(const CallSiteRow& row) {
  std::vector<std::string> parts;
  if (row.has_location()) parts.push_back(row.location() < 0 ? "to the CPU" : fmt::format("to GPU {}", row.location()));
  std::string words = row.advice().empty() ? row.copy_kind() : row.advice();
  std::replace(words.begin(), words.end(), '_', ' ');
  if (!words.empty()) parts.push_back(words);
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : ", ") + part;
  return text;
}

void More(TextWriter* writer, size_t shown) {
  if (writer->options().top == 0 || shown <= writer->options().top) return;
  writer->Paragraph(fmt::format("... and {} more rows (--top 0 shows all)", shown - writer->options().top));
}

std::string Origin(const std::string& origin) {
  if (origin == "nvtx") return "NVTX range";
  if (origin == "profiler") return "cudaProfilerStart/Stop";
  if (origin == "marker") return "--phase-marker";
  if (origin == "found") return "found from the data";
  return origin;
}

}  // namespace

void WriteCallSites(TextWriter* writer) {
  const Report& report = writer->report();
  if (report.call_sites_size() == 0) return;
  writer->Heading("CALLS BY LINE");
  Table table({{"count"},
               {"failed"},
               {"asked for"},
               {"moved"},
               {"changed nothing"},
               {"time"},
               {"function", Align::kLeft},
               {"", Align::kLeft},
               {"memory of", Align::kLeft},
               {"called in", Align::kLeft}});
  size_t shown = 0;
  for (const CallSiteRow& row : report.call_sites()) {
    if (!writer->Within(shown++)) continue;
    table.AddRow({FormatCount(row.count()), Count(row.failures()), Bytes(row.bytes()),
                  row.has_moved_bytes() ? FormatBytes(row.moved_bytes()) : "",
                  row.without_effect() > 0
                      ? fmt::format("{} of {}", FormatCount(row.without_effect()), FormatCount(row.count()))
                      : "",
                  Time(row.total_ns()), Printable(row.function()), Printable(Details(row)),
                  Target(row.target(), row.target_site()), Printable(PlaceOf(row.site()))});
    if (!writer->options().stacks) continue;
    for (const std::string& frame : row.stack()) table.AddNote(Printable(frame));
  }
  writer->Add(table);
  More(writer, shown);
}

void WriteKernelSites(TextWriter* writer) {
  const Report& report = writer->report();
  if (report.kernel_sites_size() == 0) return;
  writer->Heading("KERNELS BY MEMORY");
  Table table({{"GPU faults"},
               {"read"},
               {"write"},
               {"atomic"},
               {"to GPU"},
               {"GPU waited"},
               {"memory of", Align::kLeft},
               {"kernel", Align::kLeft}});
  size_t shown = 0;
  for (const KernelSiteRow& row : report.kernel_sites()) {
    if (!writer->Within(shown++)) continue;
    table.AddRow({Count(row.gpu_fault_entries() > 0 ? row.gpu_fault_entries() : row.gpu_fault_groups()),
                  Count(row.reads()), Count(row.writes()), Count(row.atomics()), Bytes(row.host_to_device_bytes()),
                  Time(row.gpu_waited_ns()), Target(row.target(), row.target_site()),
                  ShortName(Printable(row.kernel()))});
  }
  writer->Add(table);
  More(writer, shown);
}

void WriteCpuFaultTargets(TextWriter* writer) {
  const Report& report = writer->report();
  if (report.cpu_fault_targets_size() == 0) return;
  writer->Heading("CPU FAULTS BY LINE");
  Table table({{"CPU faults"},
               {"to host"},
               {"thread", Align::kLeft},
               {"memory of", Align::kLeft},
               {"touched in", Align::kLeft}});
  size_t shown = 0;
  bool sampled = false;
  for (const CpuFaultTargetRow& row : report.cpu_fault_targets()) {
    if (!writer->Within(shown++)) continue;
    sampled |= row.sampled();
    std::string thread = Printable(row.thread());
    if (row.has_tid()) thread += (thread.empty() ? "" : " ") + fmt::format("({})", row.tid());
    table.AddRow({FormatCount(row.faults()), Bytes(row.device_to_host_bytes()), thread,
                  Target(row.target(), row.target_site()),
                  Printable(PlaceOf(row.site())) + (row.sampled() ? " *" : "")});
  }
  writer->Add(table);
  More(writer, shown);
  if (sampled) {
    writer->Paragraph(
        "* is sampled: the thread's statement was read when the event was drained, up to 50 ms after the touch.");
  }
}

void WritePhases(TextWriter* writer) {
  const Report& report = writer->report();
  if (report.phases_size() == 0) return;
  writer->Heading("PHASES");
  Table table({{"from"},
               {"to"},
               {"count"},
               {"time"},
               {"in kernels"},
               {"GPU waited"},
               {"to GPU"},
               {"to host"},
               {"evicted"},
               {"GPU faults"},
               {"CPU faults"},
               {"phase", Align::kLeft},
               {"known by", Align::kLeft}});
  size_t shown = 0;
  for (const PhaseRow& row : report.phases()) {
    if (!writer->Within(shown++)) continue;
    const uint64_t duration_ns = row.has_duration_ns() ? row.duration_ns() : row.end_ns() - row.start_ns();
    table.AddRow({FormatDuration(row.start_ns()), FormatDuration(row.end_ns()),
                  row.count() > 1 ? Count(row.count()) : "", FormatDuration(duration_ns), Time(row.kernel_ns()),
                  Time(row.gpu_waited_ns()), Bytes(row.host_to_device_bytes()), Bytes(row.device_to_host_bytes()),
                  Bytes(row.evicted_bytes()), Count(row.gpu_fault_entries()), Count(row.cpu_faults()),
                  Printable(row.name()), Origin(row.origin())});
  }
  writer->Add(table);
  More(writer, shown);
}

}  // namespace uvmtrace::analyzer
