// The driver's fault-servicing threads: what they cost, and where inside the driver the time went.
#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "analyzer/present/text_writer.h"
#include "analyzer/units.h"

namespace uvmtrace::analyzer {
namespace {

using Align = Table::Align;

constexpr double kMostOfFaultTime = 2;  // a thread that serves these faults alone uses about as long as they take

std::string Part(const std::string& part) {
  static constexpr std::pair<std::string_view, std::string_view> kWords[] = {
      {"copy", "giving copies to the GPU"},
      {"cpu_unmap", "unmapping pages from the CPU, with the TLB shootdowns on other cores"},
      {"population", "allocating and zeroing pages, mapping them for the GPU's DMA"},
      {"gpu_mapping", "writing the GPU's page tables, invalidating its TLB"},
      {"fault_fetch", "reading the fault buffer"},
      {"preprocess", "sorting the faults of a batch"},
      {"replay", "telling the GPU to try again"},
      {"gpu_wait", "waiting for the GPU: the copies of a batch, then its replay"},
      {"eviction", "evicting pages to make room"},
      {"policy", "deciding where pages go (residency, prefetcher, thrashing)"},
      {"system_memory", "migrating memory that CUDA did not allocate (ATS, HMM)"},
      {"access_counters", "migrating for access counters"},
      {"tools", "recording events for a profiler"},
      {"other", "servicing faults, at no place that the table of functions knows"},
      {"unknown", "in functions that are not known"},
  };
  for (const auto& [name, words] : kWords) {
    if (name == part) return std::string(words);
  }
  return part;
}

void WriteTime(TextWriter* writer) {
  const auto& rows = writer->report().bh_time();
  if (rows.empty()) {
    const std::string reason = writer->ReasonOf("bh_time");
    if (!reason.empty()) writer->Paragraph("Where inside the driver the time went is not known: " + reason + ".");
    return;
  }
  writer->Heading("INSIDE THE BOTTOM-HALF THREADS");
  Table table({{"thread", Align::kLeft}, {"share"}, {"CPU"}, {"samples"}, {"spent", Align::kLeft}});
  const std::string* thread = nullptr;
  for (const BottomHalfTimeRow& row : rows) {
    const bool first = thread == nullptr || *thread != row.thread();
    thread = &row.thread();
    table.AddRow({first ? Printable(row.thread()) : "", FormatPercent(row.share()),
                  row.cpu_ns() > 0 ? FormatDuration(row.cpu_ns()) : "", FormatCount(row.samples()), Part(row.part())});
  }
  writer->Add(table);
  writer->Paragraph(
      "From the call stacks of the threads, sampled by their CPU time; --bh-flame FILE writes them for a flame graph.");
}

}  // namespace

void WriteBottomHalf(TextWriter* writer) {
  const Report& report = writer->report();
  writer->Heading("BOTTOM-HALF THREADS");
  if (writer->Empty("bh_threads")) {
    if (report.bh_time_size() > 0) WriteTime(writer);
    return;
  }
  Table table({{"thread", Align::kLeft},
               {"CPU"},
               {"waited"},
               {"of a core"},
               {"of fault time"},
               {"per batch"},
               {"per fault"},
               {"per group"},
               {"per MiB"},
               {"GPU", Align::kLeft}});
  std::vector<std::string> reasons;
  bool anything = false;
  for (const BottomHalfRow& row : report.bh_threads()) {
    const auto time = [](bool known, double value) {
      return known ? FormatDuration(static_cast<uint64_t>(std::clamp(value, 0.0, 1e18))) : std::string();
    };
    anything |= row.has_cpu_ns();
    table.AddRow({Printable(row.name()), row.has_cpu_ns() ? FormatDuration(row.cpu_ns()) : "",
                  row.has_wait_ns() ? FormatDuration(row.wait_ns()) : "",
                  row.has_utilization() ? FormatPercent(row.utilization()) : "",
                  // Where most of its time is not of these faults, or most faults are lost, it is a share of nothing.
                  row.has_utilization_in_faults() && row.utilization_in_faults() <= kMostOfFaultTime
                      ? FormatPercent(row.utilization_in_faults())
                      : "",
                  time(row.has_ns_per_batch(), row.ns_per_batch()), time(row.has_ns_per_fault(), row.ns_per_fault()),
                  time(row.has_ns_per_fault_group(), row.ns_per_fault_group()),
                  time(row.has_ns_per_mib(), row.ns_per_mib()), writer->DeviceName(row.device_uuid())});
    if (!row.reason().empty()) {
      reasons.push_back(row.name() + (row.visible() ? ": " : " is not visible: ") + row.reason());
    }
  }
  writer->Add(table);
  for (const std::string& reason : reasons) writer->Paragraph(reason);
  const auto timed = [](const ProcessRow& row) { return row.has_system_ns(); };
  const bool processes = std::any_of(report.processes().begin(), report.processes().end(), timed);
  if (anything || processes) {
    writer->Paragraph(
        std::string("These threads serve every process on their GPU, and wait for the copies they start without giving "
                    "up the core: not all of their CPU time is overhead. Prefetch calls and CPU faults are charged to "
                    "the process instead") +
        (processes ? ":" : "."));
  }
  for (const ProcessRow& row : report.processes()) {
    if (!row.has_system_ns()) continue;
    writer->Paragraph(fmt::format("pid {}: {} of system time, {} of user time while sampled", row.pid(),
                                  FormatDuration(row.system_ns()), FormatDuration(row.user_ns())),
                      "    ", "    ");
  }
  WriteTime(writer);
}

}  // namespace uvmtrace::analyzer
