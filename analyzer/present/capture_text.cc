// The section that says what this report is of, what was on, what was lost, and what the recording itself cost.
#include <fmt/format.h>

#include <algorithm>

#include "analyzer/present/text_writer.h"
#include "analyzer/units.h"

namespace uvmtrace::analyzer {
namespace {

using uvmtrace::Capture;

std::string Join(const std::vector<std::string>& parts) {
  std::string text;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (i > 0) text += i + 1 == parts.size() ? " and " : ", ";
    text += parts[i];
  }
  return text;
}

// "bh_threads, calls, cupti (cpu_page_faults, kernels), ...": a source's parts in parentheses behind it.
std::string Names(const std::vector<const SourceRow*>& sources) {
  std::string text;
  std::string whole;  // the last source that is no part of another
  bool in_parts = false;
  for (const SourceRow* source : sources) {
    const std::string& name = source->name();
    if (!whole.empty() && name.rfind(whole + ".", 0) == 0) {
      text += (in_parts ? ", " : " (") + name.substr(whole.size() + 1);
      in_parts = true;
      continue;
    }
    if (in_parts) text += ')';
    text += (text.empty() ? "" : ", ") + name;
    whole = name;
    in_parts = false;
  }
  return in_parts ? text + ')' : text;
}

std::string SourceName(const std::string& source) {
  if (source == "cupti") return "CUPTI";
  if (source == "driver_queue") return "the driver's event queue";
  if (source == "exact_counters") return "the driver's counters";
  if (source == "reconstructed") return "the reconstruction";
  if (source == "several") return "several sources";
  return source;
}

const AccountRow* AccountOf(const Capture& capture, const std::string& quantity, const std::string& source = "") {
  for (const AccountRow& row : capture.accounts()) {
    if (row.quantity() == quantity && (source.empty() || row.source() == source)) return &row;
  }
  return nullptr;
}

// Which source recorded migrations; empty if none did.
std::string MigrationSource(const Capture& capture) {
  for (const char* quantity : {"host_to_device_bytes", "device_to_host_bytes"}) {
    const AccountRow* row = AccountOf(capture, quantity);
    if (row != nullptr && !row->source().empty()) return row->source();
  }
  return "";
}

// "CUPTI delivered 100.00 % of 1.00 GiB to the GPU and ..."; empty without the driver's counters.
std::string Completeness(const Capture& capture) {
  if (!capture.has_exact_host_to_device_bytes()) return "";
  const uint64_t exact[] = {capture.exact_host_to_device_bytes(), capture.exact_device_to_host_bytes()};
  const uint64_t delivered[] = {capture.delivered_host_to_device_bytes(), capture.delivered_device_to_host_bytes()};
  if (exact[0] + exact[1] == 0) return "nothing moved, as the driver counted it";
  std::vector<std::string> parts;
  for (int direction = 0; direction < 2; ++direction) {
    if (exact[direction] == 0) continue;
    const std::string share = capture.has_delivered_share()
                                  ? fmt::format("{:.2f} % of ", 100.0 * static_cast<double>(delivered[direction]) /
                                                                    static_cast<double>(exact[direction]))
                                  : "";
    parts.push_back(share + FormatBytes(exact[direction]) + (direction == 0 ? " to the GPU" : " to the host"));
  }
  if (capture.has_reconstruction()) {
    const Reconstruction& told = capture.reconstruction();
    std::string text = fmt::format(
        "migrations are reconstructed from the faults; {:.2f} % of the bytes explained: {}, as the driver counted them",
        100 * told.explained_share(), Join(parts));
    if (told.unexplained_bytes() > 0) {
      text += fmt::format("; {} of them, from {} on, it does not", FormatBytes(told.unexplained_bytes()),
                          FormatDuration(told.since_ns()));
    }
    return text;
  }
  const std::string source = MigrationSource(capture);
  if (capture.has_delivered_share()) {
    return (source == "driver_queue" ? "the driver's event queue delivered " : "CUPTI delivered ") + Join(parts) +
           ", as the driver counted them";
  }
  const std::string moved = Join(parts) + " moved, as the driver counted it; ";
  if (source.empty()) {
    const AccountRow* entries = AccountOf(capture, "gpu_fault_entries");
    return moved + (entries != nullptr ? "migrations were not recorded at this detail" : "CUPTI was off");
  }
  std::string sampled;
  for (const char* quantity : {"host_to_device_bytes", "device_to_host_bytes"}) {
    const AccountRow* row = AccountOf(capture, quantity);
    if (row == nullptr || !row->has_share()) continue;
    sampled += (sampled.empty() ? "" : " and ") + FormatPercent(row->share()) +
               (quantity[0] == 'h' ? " of those to the GPU" : " of those to the host");
  }
  return moved + "migrations were recorded in windows, which caught " + (sampled.empty() ? "none" : sampled);
}

std::string CapturedFaults(const Capture& capture) {
  std::vector<std::string> parts;
  for (const AccountRow& row : capture.accounts()) {
    if (!row.has_captured() || !row.has_exact()) continue;
    const bool entries = row.quantity() == "gpu_fault_entries";
    if (!entries && row.quantity() != "cpu_faults") continue;
    const std::string what = entries ? "fault-buffer entries" : "CPU faults";
    if (row.exact() == 0) continue;
    parts.push_back(row.captured() == row.exact()
                        ? fmt::format("all {} {}", FormatCount(row.exact()), what)
                        : fmt::format("{:.2f} % of {} {}", 100 * row.share(), FormatCount(row.exact()), what));
  }
  return parts.empty() ? "" : "the trace holds " + Join(parts);
}

std::string TotalsFrom(const Capture& capture) {
  // By source, so that the usual case, one source for most, is one sentence.
  std::vector<std::pair<std::string, std::vector<std::string>>> by_source;
  const auto add = [&](const std::string& words, const AccountRow* row) {
    if (row == nullptr || row->total_from().empty()) return;
    for (auto& [source, quantities] : by_source) {
      if (source != row->total_from()) continue;
      if (std::find(quantities.begin(), quantities.end(), words) == quantities.end()) quantities.push_back(words);
      return;
    }
    by_source.push_back({row->total_from(), {words}});
  };
  add("bytes", AccountOf(capture, "host_to_device_bytes"));
  add("bytes", AccountOf(capture, "device_to_host_bytes"));
  add("fault entries", AccountOf(capture, "gpu_fault_entries"));
  add("fault groups", AccountOf(capture, "gpu_fault_groups"));
  add("GPU faults", AccountOf(capture, "gpu_faults"));
  add("CPU faults", AccountOf(capture, "cpu_faults"));
  std::string text;
  for (const auto& [source, quantities] : by_source) {
    text += (text.empty() ? "" : "; ") + Join(quantities) + " from " + SourceName(source);
  }
  return text;
}

std::string ToolCostSentence(const Capture& capture) {
  std::string text;
  if (capture.has_tool_cost()) {
    const ToolCost& cost = capture.tool_cost();
    text = FormatDuration(cost.total_ns()) + " of CPU";
    if (cost.has_share_of_process_cpu()) {
      text += fmt::format(", {} of the process's", FormatPercent(cost.share_of_process_cpu()));
    }
    std::vector<std::string> parts;
    const auto part = [&parts](uint64_t time_ns, const char* what) {
      if (time_ns > 0) parts.push_back(FormatDuration(time_ns) + " " + what);
    };
    part(cost.calls_ns(), "in the program's calls (estimated)");
    part(cost.start_ns(), "to start");
    part(cost.writer_ns(), "to write the trace");
    part(cost.cupti_ns(), "to read CUPTI");
    part(cost.queue_ns(), "to read the driver's event queue");
    part(cost.sampler_ns(), "to sample threads and counters");
    part(cost.profiler_ns(), "to collect the driver threads' stacks");
    if (!parts.empty()) text += ": " + Join(parts);
    if (cost.has_ns_per_event()) {
      text += fmt::format("; that is {} and {} of trace for each of {}",
                          FormatDuration(static_cast<uint64_t>(std::clamp(cost.ns_per_event(), 0.0, 1e18))),
                          FormatBytes(static_cast<uint64_t>(std::clamp(cost.bytes_per_event(), 0.0, 1e18))),
                          Plural(cost.events(), "event", "events"));
    }
  } else if (capture.has_tool_cpu_ns()) {
    text = FormatDuration(capture.tool_cpu_ns()) + " of CPU in uvmtrace's own threads";
  }
  if (capture.has_tools_event_queue_cpu_ns()) {
    text += fmt::format("{}{} in the driver's \"UVM Tools Event Queue\", which works for profilers alone",
                        text.empty()              ? ""
                        : capture.has_tool_cost() ? "; besides, "
                                                  : ", ",
                        FormatDuration(capture.tools_event_queue_cpu_ns()));
  }
  const ToolCost& cost = capture.tool_cost();
  if (cost.time_stamps_ns() > 0) {
    text += fmt::format(
        "; and the program waited some {} for the time stamps that the driver has the GPU write when it records a "
        "migration, here {} of them (UVMTRACE_DETAIL=light records none)",
        FormatDuration(cost.time_stamps_ns()), FormatCount(cost.time_stamps()));
  }
  return text;
}

std::string Versions(const Capture& capture) {
  std::string versions;
  if (!capture.uvmtrace_version().empty()) versions += "uvmtrace " + capture.uvmtrace_version();
  if (!capture.kernel_driver_version().empty()) versions += ", driver " + capture.kernel_driver_version();
  if (capture.has_cuda_driver_version()) {
    versions +=
        fmt::format(", CUDA {}.{}", capture.cuda_driver_version() / 1000, capture.cuda_driver_version() % 1000 / 10);
  }
  if (capture.has_cupti_version()) versions += fmt::format(", CUPTI {}", capture.cupti_version());
  return versions;
}

// What was recorded in windows beside what was reconstructed: a check, and part of no total.
std::string WindowCheck(const Capture& capture) {
  const Reconstruction& told = capture.reconstruction();
  std::string text = fmt::format("{} of {} in all, in which migrations were recorded",
                                 Plural(capture.migration_windows(), "window", "windows"),
                                 FormatDuration(capture.migration_windows_ns()));
  if (told.window_bytes() == 0) return text + ": nothing moved in them";
  text += fmt::format(": {:.2f} % of these {} were reconstructed alike",
                      100 * static_cast<double>(told.window_agreed_bytes()) / static_cast<double>(told.window_bytes()),
                      FormatBytes(told.window_bytes()));
  if (told.window_agreed_bytes() < told.window_bytes()) {
    text += fmt::format(", the others, from {} on, were not", FormatDuration(told.window_since_ns()));
  }
  for (const WindowCopies& copies : told.window_copies()) {
    text += fmt::format("; all copies {} took about {}, at the {} of those",
                        copies.direction() == "host_to_device" ? "to the GPU" : "to the host",
                        FormatDuration(copies.estimated_duration_ns()),
                        FormatRate(copies.duration_ns() == 0 ? 0
                                                             : static_cast<double>(copies.bytes()) * 1e9 /
                                                                   static_cast<double>(copies.duration_ns())));
  }
  return text;
}

}  // namespace

void WriteCapture(TextWriter* writer) {
  const Report& report = writer->report();
  const Capture& capture = report.capture();
  writer->Heading("CAPTURE");
  std::string command;
  for (const std::string& argument : capture.command_line()) command += (command.empty() ? "" : " ") + argument;
  TextWriter::Facts facts;
  const auto fact = [&facts](const std::string& name, const std::string& value) {
    if (!value.empty()) facts.emplace_back(name, value);
  };
  fact("command", command);
  std::string process;
  if (capture.has_pid()) process = fmt::format("pid {}", capture.pid());
  if (!capture.host().empty()) process += " on " + capture.host();
  if (capture.has_duration_ns()) process += ", traced for " + FormatDuration(capture.duration_ns());
  fact("process", process);
  for (const DeviceRow& device : report.devices()) {
    std::string text = device.name();
    if (device.has_total_memory_bytes()) text += ", " + FormatBytes(device.total_memory_bytes());
    if (!device.uuid().empty()) text += ", " + device.uuid();
    if (report.devices_size() > 1 && device.has_exact_host_to_device_bytes()) {
      text += fmt::format(": {} to it, {} from it, {}", FormatBytes(device.exact_host_to_device_bytes()),
                          FormatBytes(device.exact_device_to_host_bytes()),
                          Plural(device.exact_gpu_faults(), "fault", "faults"));
    }
    fact(fmt::format("GPU {}", device.ordinal()), text);
  }
  fact("versions", Versions(capture));
  fact("trace", fmt::format("{}, detail {}, {}", FormatBytes(capture.trace_bytes()),
                            capture.detail().empty() ? "unknown" : capture.detail(),
                            capture.clean_end() ? "ended cleanly" : "no clean end"));
  for (const DetailChangeRow& change : capture.detail_changes()) {
    fact("detail", fmt::format("{} from {} on{}{}", change.detail(), FormatDuration(change.time_ns()),
                               change.has_pid() ? fmt::format(" in pid {}", change.pid()) : "",
                               change.reason().empty() ? "" : ": " + change.reason()));
  }
  if (capture.has_migration_windows() && capture.has_reconstruction()) {
    fact("check", WindowCheck(capture));
  } else if (capture.has_migration_windows()) {
    fact("sample", fmt::format("{} of {} in all: migrations were recorded in them only; ~ marks what is scaled up "
                               "from that",
                               Plural(capture.migration_windows(), "window", "windows"),
                               FormatDuration(capture.migration_windows_ns())));
  }
  if (capture.bad_chunks() > 0 || capture.torn_bytes() > 0) {
    fact("damage", fmt::format("{} damaged or missing, {} unreadable", Plural(capture.bad_chunks(), "chunk", "chunks"),
                               FormatBytes(capture.torn_bytes())));
  }
  fact("completeness", Completeness(capture));
  fact("", CapturedFaults(capture));
  fact("totals are", TotalsFrom(capture));
  AddCoverageFacts(capture, &facts);
  fact("tool cost", ToolCostSentence(capture));
  std::vector<const SourceRow*> active;
  std::vector<std::pair<std::string, std::vector<const SourceRow*>>> others;  // by state and reason
  for (const SourceRow& source : capture.sources()) {
    if (source.name().rfind("apply", 0) == 0) continue;  // in a section of its own
    if (source.state() == "active") {
      active.push_back(&source);
      continue;
    }
    const auto same = [&source](const auto& group) {
      return group.second.front()->state() == source.state() && group.second.front()->reason() == source.reason();
    };
    const auto group = std::find_if(others.begin(), others.end(), same);
    if (group == others.end()) {
      others.push_back({"was " + source.state(), {&source}});
    } else {
      group->second.push_back(&source);
    }
  }
  fact("was on", Names(active));
  for (const auto& [name, sources] : others) {
    const std::string& reason = sources.front()->reason();
    fact(name, Names(sources) + (reason.empty() ? "" : ": " + reason));
  }
  if (capture.lost_size() == 0) fact("lost", "nothing");
  for (const LostRow& row : capture.lost()) {
    const bool bytes = row.reason().rfind("bytes ", 0) == 0;
    fact("lost", fmt::format("{} of {}: {}", bytes ? FormatBytes(row.count()) : FormatCount(row.count()), row.source(),
                             row.reason()));
  }
  writer->AddFacts(facts, Table::Align::kLeft);
}

}  // namespace uvmtrace::analyzer
