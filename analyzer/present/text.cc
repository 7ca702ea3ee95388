#include "analyzer/present/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "analyzer/present/allocation_table.h"
#include "analyzer/present/short_name.h"
#include "analyzer/present/text_writer.h"
#include "analyzer/units.h"

namespace uvmtrace::analyzer {
namespace {

using Align = Table::Align;

class TextReport : private TextWriter {
 public:
  TextReport(const Report& report, const TextOptions& options)
      : TextWriter(report, options), report_(report), options_(options) {}

  std::string Render() {
    Verdict();
    WriteCapture(this);
    Memory();
    Calls();
    WriteHazards(this);
    WriteFaults(this);
    Migrations();
    WriteBandwidth(this);
    WriteBottomHalf(this);
    Allocations();
    Kernels();
    Oversubscription();
    Processes();
    NotSeen();
    return Take();
  }

 private:
  void Verdict() {
    Heading("VERDICT");
    for (const std::string& sentence : report_.verdict()) {
      const bool simulated = options_.color && sentence.rfind("SIMULATED", 0) == 0;
      if (simulated) Color("\033[33m");
      Paragraph(sentence, "  * ", "    ");
      if (simulated) Color("\033[0m");
    }
  }

  void Memory() {
    Heading("MEMORY BY KIND");
    if (Empty("memory")) return;
    Table table({{"kind", Align::kLeft},
                 {"calls"},
                 {"freed"},
                 {"peak"},
                 {"live at end"},
                 {"total"},
                 {"time in calls"},
                 {"failed"}});
    for (const MemoryRow& row : report_.memory()) {
      table.AddRow({row.kind(), FormatCount(row.allocations()), FormatCount(row.frees()), FormatBytes(row.peak_bytes()),
                    FormatBytes(row.live_bytes()), FormatBytes(row.total_bytes()), FormatDuration(row.call_ns()),
                    row.failures() > 0 ? FormatCount(row.failures()) : ""});
    }
    Add(table);
  }

  void Calls() {
    Heading("CALLS");
    if (Empty("calls")) return;
    Table table({{"count"}, {"failed"}, {"total"}, {"p50"}, {"p99"}, {"max"}, {"bytes"}, {"function", Align::kLeft}});
    size_t shown = 0;
    for (const CallRow& row : report_.calls()) {
      if (!Within(shown++)) continue;
      table.AddRow({FormatCount(row.count()), row.failures() > 0 ? FormatCount(row.failures()) : "",
                    FormatDuration(row.total_ns()), FormatDuration(row.p50_ns()), FormatDuration(row.p99_ns()),
                    FormatDuration(row.max_ns()), row.bytes() > 0 ? FormatBytes(row.bytes()) : "",
                    Printable(row.name())});
    }
    Add(table);
    if (options_.top > 0 && shown > options_.top) {
      Paragraph(fmt::format("... and {} more functions (--top 0 shows all)", shown - options_.top));
    }
  }

  void Migrations() {
    Heading("MIGRATIONS");
    if (Empty("migrations")) {
      const Totals& totals = report_.totals();
      if (totals.host_to_device_bytes() + totals.device_to_host_bytes() > 0) {
        Paragraph(fmt::format("As the driver counted, {} moved to the GPU and {} to the host.",
                              FormatBytes(totals.host_to_device_bytes()), FormatBytes(totals.device_to_host_bytes())));
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
    for (const MigrationRow& row : report_.migrations()) {
      estimated |= row.estimated();
      table.AddRow({Direction(row.direction()), Cause(row), Estimated(FormatBytes(row.bytes()), row.estimated()),
                    row.estimated() ? FormatBytes(row.low_bytes()) + " - " + FormatBytes(row.high_bytes()) : "",
                    row.has_count() ? Estimated(FormatCount(row.count()), row.estimated()) : "",
                    row.has_count() ? FormatBytes(row.bytes() / std::max<uint64_t>(row.count(), 1)) : "",
                    row.has_busy_ns() ? Estimated(FormatDuration(row.busy_ns()), row.estimated()) : "",
                    row.has_bytes_per_second() ? FormatRate(row.bytes_per_second()) : ""});
    }
    Add(table);
    const bool stamped = report_.capture().tool_cost().time_stamps_ns() > 0;
    Paragraph(
        std::string("Busy is the union of the copies' intervals; throughput is bytes over that: the end-to-end "
                    "bandwidth of the migration service, not of the link") +
        (stamped ? ", and lower than without the time stamps that recording takes." : "."));
    if (!estimated) return;
    Paragraph(
        "~ is an estimate: the bytes of a direction are the driver's own count, shared out as in the windows in which "
        "migrations were recorded. The interval is from the variance between the windows.");
  }

  static std::string Direction(const std::string& name) {
    if (name == "host_to_device") return "host to GPU";
    if (name == "device_to_host") return "GPU to host";
    if (name == "device_to_device") return "GPU to GPU";
    return name;
  }

  static std::string Cause(const MigrationRow& row) {
    if (row.cause() == "coherence") return row.direction() == "device_to_host" ? "CPU page fault" : "page fault";
    if (row.cause() == "prefetch") return "driver's prefetcher";
    if (row.cause() == "user") return "prefetch call";
    if (row.cause() == "access_counters") return "access counters";
    if (row.cause() == "unknown" && !row.has_count()) return "in no window";
    return row.cause();
  }

  void Allocations() {
    const bool anything =
        std::any_of(report_.allocations().begin(), report_.allocations().end(), [](const AllocationRow& row) {
          return row.gpu_fault_groups() + row.gpu_fault_entries() + row.cpu_faults() + row.host_to_device_bytes() +
                     row.device_to_host_bytes() >
                 0;
        });
    if (report_.allocations_size() == 0) {
      Heading("ALLOCATIONS");
      Empty("allocations");
      return;
    }
    Heading(anything ? "ALLOCATIONS BY BYTES MIGRATED" : "ALLOCATIONS BY SIZE");
    Add(*AllocationTable(report_, options_, AllocationOrder::kByBytesMoved));
    if (const auto by_faults = AllocationTable(report_, options_, AllocationOrder::kByFaults)) {
      Heading("ALLOCATIONS BY FAULTS");
      Add(*by_faults);
    }
  }

  void Kernels() {
    Heading("KERNELS");
    if (Empty("kernels")) return;
    Table table({{"launches"}, {"time"}, {"fault entries"}, {"fault groups"}, {"to GPU"}, {"kernel", Align::kLeft}});
    for (const KernelRow& row : report_.kernels()) {
      table.AddRow(
          {row.has_count() ? FormatCount(row.count()) : "", row.has_total_ns() ? FormatDuration(row.total_ns()) : "",
           row.gpu_fault_entries() > 0 ? FormatCount(row.gpu_fault_entries()) : "",
           row.gpu_fault_groups() > 0 ? FormatCount(row.gpu_fault_groups()) : "",
           row.host_to_device_bytes() > 0 ? Estimated(FormatBytes(row.host_to_device_bytes()), row.estimated()) : "",
           ShortName(Printable(row.name()))});
    }
    Add(table);
    Paragraph("Faults and bytes are laid on the kernel that ran on the same device when they started.");
  }

  void Oversubscription() {
    const auto& fit = report_.oversubscription();
    Heading("OVERSUBSCRIPTION");
    if (Empty("oversubscription")) return;
    Facts facts;
    facts.push_back({FormatBytes(fit.managed_live_peak_bytes()), "managed memory alive at its peak"});
    if (fit.has_device_capacity_bytes()) {
      facts.push_back({FormatBytes(fit.device_capacity_bytes()), "of GPU memory in all"});
      facts.push_back(
          {FormatPercent(fit.peak_ratio()), "is the ratio of the two: above 100 % it cannot all be on the GPU"});
    }
    if (fit.has_evicted_bytes())
      facts.push_back({Estimated(FormatBytes(fit.evicted_bytes()), fit.estimated()), "evicted to make room"});
    if (fit.has_refaulted_bytes()) {
      facts.push_back({FormatBytes(fit.refaulted_bytes()), "came back to a GPU after leaving it"});
    }
    AddFacts(facts, Align::kRight);
  }

  void Processes() {
    if (report_.processes_size() < 2) return;
    Heading("PROCESSES");
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
    for (const ProcessRow& row : report_.processes()) {
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
    Add(table);
  }

  void NotSeen() {
    Heading("NOT SEEN");
    if (report_.not_seen_size() == 0) Paragraph("nothing is known to be missing");
    for (const std::string& line : report_.not_seen()) Paragraph(line, "  - ", "    ");
  }

  const Report& report_;
  const TextOptions& options_;
};

}  // namespace

std::string RenderText(const Report& report, const TextOptions& options) {
  return TextReport(report, options).Render();
}

}  // namespace uvmtrace::analyzer
