#include "analyzer/present/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "analyzer/present/allocation_table.h"
#include "analyzer/present/short_name.h"
#include "analyzer/present/table.h"
#include "analyzer/units.h"

namespace uvmtrace::analyzer {
namespace {

using Align = Table::Align;

constexpr size_t kParagraphWidth = 100;

class TextReport {
 public:
  TextReport(const Report& report, const TextOptions& options) : report_(report), options_(options) {}

  std::string Render() {
    Verdict();
    Capture();
    Memory();
    Calls();
    Faults();
    Migrations();
    BottomHalf();
    Allocations();
    Kernels();
    Oversubscription();
    Processes();
    NotSeen();
    return std::move(text_);
  }

 private:
  void Heading(const std::string& title) {
    if (!text_.empty()) text_ += '\n';
    text_ += options_.color ? "\033[1m" + title + "\033[0m\n" : title + "\n";
  }

  void Paragraph(const std::string& sentence, const char* first = "  ", const char* rest = "  ") {
    const size_t width = options_.width > 0 ? std::min(options_.width, kParagraphWidth) : kParagraphWidth;
    text_ += Wrap(Printable(sentence), first, rest, width);
  }

  void Add(const Table& table) { text_ += table.Render(options_.width, options_.color); }

  // Names and values; values are wrapped, never cut.
  using Facts = std::vector<std::pair<std::string, std::string>>;
  void AddFacts(const Facts& facts, Align align) {
    size_t names = 0;
    for (const auto& fact : facts) names = std::max(names, fact.first.size());
    const size_t width = options_.width > 0 ? std::min(options_.width, kParagraphWidth) : kParagraphWidth;
    for (const auto& [name, value] : facts) {
      const std::string padding(names - name.size(), ' ');
      const std::string first = "  " + (align == Align::kRight ? padding + name : name + padding) + "  ";
      text_ += Wrap(Printable(value), first, std::string(first.size(), ' '), width);
    }
  }

  // Why a section is empty; false if it is not.
  bool Empty(const std::string& section) {
    for (const EmptySection& empty : report_.empty_sections()) {
      if (empty.section() != section) continue;
      Paragraph("none: " + empty.reason());
      return true;
    }
    return false;
  }

  bool Within(int row) const { return options_.top == 0 || static_cast<size_t>(row) < options_.top; }

  void Verdict() {
    Heading("VERDICT");
    for (const std::string& sentence : report_.verdict()) {
      const bool simulated = options_.color && sentence.rfind("SIMULATED", 0) == 0;
      if (simulated) text_ += "\033[33m";
      Paragraph(sentence, "  * ", "    ");
      if (simulated) text_ += "\033[0m";
    }
  }

  void Capture() {
    const auto& capture = report_.capture();
    Heading("CAPTURE");
    std::string command;
    for (const std::string& argument : capture.command_line()) command += (command.empty() ? "" : " ") + argument;
    Facts facts;
    const auto fact = [&facts](const std::string& name, const std::string& value) {
      if (!value.empty()) facts.emplace_back(name, value);
    };
    fact("command", command);
    std::string process;
    if (capture.has_pid()) process = fmt::format("pid {}", capture.pid());
    if (!capture.host().empty()) process += " on " + capture.host();
    if (capture.has_duration_ns()) process += ", traced for " + FormatDuration(capture.duration_ns());
    fact("process", process);
    for (const DeviceRow& device : report_.devices()) {
      fact(fmt::format("GPU {}", device.ordinal()),
           fmt::format("{}{} {}", device.name(),
                       device.has_total_memory_bytes() ? ", " + FormatBytes(device.total_memory_bytes()) : "",
                       device.uuid()));
    }
    std::string versions;
    if (!capture.uvmtrace_version().empty()) versions += "uvmtrace " + capture.uvmtrace_version();
    if (!capture.kernel_driver_version().empty()) versions += ", driver " + capture.kernel_driver_version();
    if (capture.has_cuda_driver_version()) {
      versions +=
          fmt::format(", CUDA {}.{}", capture.cuda_driver_version() / 1000, capture.cuda_driver_version() % 1000 / 10);
    }
    if (capture.has_cupti_version()) versions += fmt::format(", CUPTI {}", capture.cupti_version());
    fact("versions", versions);
    fact("trace", fmt::format("{}, detail {}, {}", FormatBytes(capture.trace_bytes()),
                              capture.detail().empty() ? "unknown" : capture.detail(),
                              capture.clean_end() ? "ended cleanly" : "no clean end"));
    if (capture.bad_chunks() > 0 || capture.torn_bytes() > 0) {
      fact("damage", fmt::format("{} chunks damaged or missing, {} unreadable", FormatCount(capture.bad_chunks()),
                                 FormatBytes(capture.torn_bytes())));
    }
    fact("completeness", Completeness(capture));
    std::string cost;
    if (capture.has_tool_cpu_ns()) cost = FormatDuration(capture.tool_cpu_ns()) + " of CPU in uvmtrace's own threads";
    if (capture.has_tools_event_queue_cpu_ns()) {
      cost += fmt::format("{}{} in the driver's \"UVM Tools Event Queue\", which works for profilers alone",
                          cost.empty() ? "" : ", ", FormatDuration(capture.tools_event_queue_cpu_ns()));
    }
    fact("tool cost", cost);
    fact("was on", ActiveSources(capture));
    for (const SourceRow& source : capture.sources()) {
      if (source.state() == "active") continue;
      fact("was " + source.state(), source.name() + (source.reason().empty() ? "" : ": " + source.reason()));
    }
    if (capture.lost_size() == 0) fact("lost", "nothing");
    for (const LostRow& row : capture.lost()) {
      const bool bytes = row.reason().rfind("bytes ", 0) == 0;
      fact("lost", fmt::format("{} of {}: {}", bytes ? FormatBytes(row.count()) : FormatCount(row.count()),
                               row.source(), row.reason()));
    }
    AddFacts(facts, Align::kLeft);
  }

  // "bh_threads, calls, cupti (cpu_page_faults, kernels), ...": a source's parts in parentheses behind it.
  static std::string ActiveSources(const uvmtrace::Capture& capture) {
    std::string active;
    std::string whole;  // the last source that is no part of another
    bool in_parts = false;
    for (const SourceRow& source : capture.sources()) {
      if (source.state() != "active") continue;
      if (!whole.empty() && source.name().rfind(whole + ".", 0) == 0) {
        active += (in_parts ? ", " : " (") + source.name().substr(whole.size() + 1);
        in_parts = true;
        continue;
      }
      if (in_parts) active += ')';
      active += (active.empty() ? "" : ", ") + source.name();
      whole = source.name();
      in_parts = false;
    }
    return in_parts ? active + ')' : active;
  }

  // "CUPTI delivered 100.00 % of 1.00 GiB to the GPU and ..."; empty without the driver's counters.
  static std::string Completeness(const uvmtrace::Capture& capture) {
    if (!capture.has_exact_host_to_device_bytes()) return "";
    const uint64_t exact[] = {capture.exact_host_to_device_bytes(), capture.exact_device_to_host_bytes()};
    const uint64_t delivered[] = {capture.delivered_host_to_device_bytes(), capture.delivered_device_to_host_bytes()};
    if (exact[0] + exact[1] == 0) return "nothing moved, as the driver counted it";
    std::string text;
    for (int direction = 0; direction < 2; ++direction) {
      if (exact[direction] == 0) continue;
      if (!text.empty()) text += " and ";
      if (capture.has_delivered_share()) {
        text += fmt::format("{:.2f} % of ",
                            100.0 * static_cast<double>(delivered[direction]) / static_cast<double>(exact[direction]));
      }
      text += FormatBytes(exact[direction]) + (direction == 0 ? " to the GPU" : " to the host");
    }
    if (!capture.has_delivered_share()) return text + " moved, as the driver counted it; CUPTI was off";
    return "CUPTI delivered " + text + ", as the driver counted them";
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
    int shown = 0;
    for (const CallRow& row : report_.calls()) {
      if (!Within(shown++)) continue;
      table.AddRow({FormatCount(row.count()), row.failures() > 0 ? FormatCount(row.failures()) : "",
                    FormatDuration(row.total_ns()), FormatDuration(row.p50_ns()), FormatDuration(row.p99_ns()),
                    FormatDuration(row.max_ns()), row.bytes() > 0 ? FormatBytes(row.bytes()) : "",
                    Printable(row.name())});
    }
    Add(table);
    if (options_.top > 0 && static_cast<size_t>(shown) > options_.top) {
      Paragraph(
          fmt::format("... and {} more functions (--top 0 shows all)", static_cast<size_t>(shown) - options_.top));
    }
  }

  void Faults() {
    const auto& totals = report_.totals();
    Heading("FAULTS");
    if (Empty("faults")) return;
    Facts facts;
    const auto fact = [&facts](const std::string& number, const std::string& words) {
      facts.emplace_back(number, words);
    };
    if (totals.has_gpu_faults()) {
      fact(FormatCount(totals.gpu_faults()),
           "GPU faults (the driver's count: entries of the fault buffer after merging duplicates)");
    }
    if (totals.has_gpu_fault_groups()) {
      fact(FormatCount(totals.gpu_fault_groups()),
           "GPU fault groups (CUPTI's count: faults of one page that were merged)");
    }
    if (totals.has_gpu_fault_records()) {
      fact(FormatCount(totals.gpu_fault_records()), "records that CUPTI gave of them");
    }
    if (totals.has_fault_batches())
      fact(FormatCount(totals.fault_batches()), "batches (records with one end: one replay)");
    if (totals.has_fault_service_ns()) {
      fact(FormatDuration(totals.fault_service_ns()), "with faults being serviced (union of the batches)");
    }
    if (totals.has_cpu_faults()) fact(FormatCount(totals.cpu_faults()), "CPU page faults");
    if (totals.thrashing_events() > 0) {
      fact(FormatCount(totals.thrashing_events()), "times the driver saw CPU-GPU ping-pong (its \"thrashing\" event)");
    }
    if (totals.throttling_events() > 0)
      fact(FormatCount(totals.throttling_events()), "times it throttled a processor for that");
    if (totals.remote_mapped_bytes() > 0) {
      fact(FormatBytes(totals.remote_mapped_bytes()), "mapped across the link instead of migrated");
    }
    AddFacts(facts, Align::kRight);
  }

  void Migrations() {
    Heading("MIGRATIONS");
    if (Empty("migrations")) return;
    Table table({{"direction", Align::kLeft},
                 {"cause", Align::kLeft},
                 {"bytes"},
                 {"copies"},
                 {"mean"},
                 {"busy"},
                 {"throughput"}});
    for (const MigrationRow& row : report_.migrations()) {
      table.AddRow({Direction(row.direction()), Cause(row), FormatBytes(row.bytes()), FormatCount(row.count()),
                    FormatBytes(row.bytes() / std::max<uint64_t>(row.count(), 1)),
                    row.has_busy_ns() ? FormatDuration(row.busy_ns()) : "",
                    row.has_bytes_per_second() ? FormatRate(row.bytes_per_second()) : ""});
    }
    Add(table);
    Paragraph(
        "Busy is the union of the copies' intervals; throughput is bytes over that: the end-to-end bandwidth of the "
        "migration "
        "service, not of the link.");
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
    return row.cause();
  }

  void BottomHalf() {
    Heading("BOTTOM-HALF THREADS");
    if (Empty("bh_threads")) return;
    Table table({{"thread", Align::kLeft},
                 {"CPU"},
                 {"waited"},
                 {"of a core"},
                 {"of fault time"},
                 {"per batch"},
                 {"per group"},
                 {"per MiB"},
                 {"GPU", Align::kLeft}});
    std::vector<std::string> reasons;
    for (const BottomHalfRow& row : report_.bh_threads()) {
      const auto time = [](bool known, double value) {
        return known ? FormatDuration(static_cast<uint64_t>(std::clamp(value, 0.0, 1e18))) : std::string();
      };
      table.AddRow({Printable(row.name()), row.has_cpu_ns() ? FormatDuration(row.cpu_ns()) : "",
                    row.has_wait_ns() ? FormatDuration(row.wait_ns()) : "",
                    row.has_utilization() ? FormatPercent(row.utilization()) : "",
                    row.has_utilization_in_faults() ? FormatPercent(row.utilization_in_faults()) : "",
                    time(row.has_ns_per_batch(), row.ns_per_batch()),
                    time(row.has_ns_per_fault_group(), row.ns_per_fault_group()),
                    time(row.has_ns_per_mib(), row.ns_per_mib()), row.device_uuid()});
      if (!row.reason().empty()) {
        reasons.push_back(row.name() + (row.visible() ? ": " : " is not visible: ") + row.reason());
      }
    }
    Add(table);
    for (const std::string& reason : reasons) Paragraph(reason);
    Paragraph(
        "These threads serve every process on their GPU and busy-wait for the copies they start, so their CPU time is "
        "no pure "
        "overhead. Prefetch calls and CPU faults are charged to the process instead:");
    for (const ProcessRow& row : report_.processes()) {
      if (!row.has_system_ns()) continue;
      Paragraph(fmt::format("pid {}: {} of system time, {} of user time while sampled", row.pid(),
                            FormatDuration(row.system_ns()), FormatDuration(row.user_ns())),
                "    ", "    ");
    }
  }

  void Allocations() {
    const bool anything =
        std::any_of(report_.allocations().begin(), report_.allocations().end(), [](const AllocationRow& row) {
          return row.gpu_fault_groups() + row.cpu_faults() + row.host_to_device_bytes() + row.device_to_host_bytes() >
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
    Table table({{"launches"}, {"time"}, {"fault groups"}, {"to GPU"}, {"kernel", Align::kLeft}});
    for (const KernelRow& row : report_.kernels()) {
      table.AddRow({row.has_count() ? FormatCount(row.count()) : "",
                    row.has_total_ns() ? FormatDuration(row.total_ns()) : "",
                    row.gpu_fault_groups() > 0 ? FormatCount(row.gpu_fault_groups()) : "",
                    row.host_to_device_bytes() > 0 ? FormatBytes(row.host_to_device_bytes()) : "",
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
          {fmt::format("{:.2f}", fit.peak_ratio()), "ratio of the two: above 1 it cannot all be on the GPU"});
    }
    if (fit.has_evicted_bytes()) facts.push_back({FormatBytes(fit.evicted_bytes()), "evicted to make room"});
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
  std::string text_;
};

}  // namespace

std::string RenderText(const Report& report, const TextOptions& options) {
  return TextReport(report, options).Render();
}

}  // namespace uvmtrace::analyzer
