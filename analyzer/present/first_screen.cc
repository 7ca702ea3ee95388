// The first screen: what it cost, what to change, where, when, whether it fits, and how far to trust it. Two dozen
// lines that are enough to act on. Everything else of the report stands below.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "analyzer/explain/bottom_half.h"
#include "analyzer/explain/capture_words.h"
#include "analyzer/explain/evidence.h"
#include "analyzer/explain/host_memory.h"
#include "analyzer/present/change_text.h"
#include "analyzer/present/site_text.h"
#include "analyzer/present/strips.h"
#include "analyzer/present/text_writer.h"
#include "analyzer/short_name.h"
#include "analyzer/units.h"

namespace uvmtrace::analyzer {
namespace {

using Align = Table::Align;

constexpr size_t kScreenLines = 24;
constexpr size_t kStripColumns = 40;
constexpr size_t kNameColumns = 10;  // "WHEN", "FITS", "TRACING" and what stands beside them

// How much of each part is printed. What the first finding rests on goes last.
struct Room {
  size_t changes;
  FindingText first;
  FindingText others;
  size_t sites;
  size_t phases;
  size_t strips;
};
constexpr FindingText kWhole = FindingText::kWhole;
constexpr FindingText kShort = FindingText::kShort;
constexpr FindingText kHead = FindingText::kHead;
// The first of these that fits on the screen is taken.
constexpr Room kRooms[] = {
    {3, kWhole, kWhole, 4, 4, 9}, {3, kWhole, kShort, 4, 4, 4}, {2, kWhole, kShort, 4, 2, 4},
    {2, kWhole, kHead, 4, 2, 3},  {2, kWhole, kHead, 3, 0, 3},  {2, kWhole, kHead, 3, 0, 2},
    {2, kWhole, kHead, 2, 0, 2},  {1, kWhole, kHead, 2, 0, 2},  {1, kWhole, kHead, 2, 0, 1},
    {1, kWhole, kHead, 1, 0, 1},  {1, kShort, kHead, 2, 0, 1},  {1, kShort, kHead, 1, 0, 1},
    {1, kShort, kHead, 1, 0, 0},  {1, kHead, kHead, 1, 0, 0},
};

std::string Command(const Capture& capture) {
  constexpr size_t kLongest = 60;
  std::string command;
  for (const std::string& argument : capture.command_line()) {
    const std::string word = command.empty() ? argument.substr(argument.rfind('/') + 1) : " " + argument;
    if (Columns(command) + Columns(word) > kLongest && !command.empty()) return Printable(command) + " ...";
    command += word;
  }
  return command.empty() ? "a program that is not named" : Printable(command);
}

std::string Gpus(const Report& report) {
  if (report.devices_size() == 0) return "";
  const std::string& name = report.devices(0).name();
  const auto same = [&name](const DeviceRow& row) { return row.name() == name; };
  const bool all = std::all_of(report.devices().begin(), report.devices().end(), same);
  if (report.devices_size() == 1) return " on " + Printable(name);
  return fmt::format(" on {} {}", report.devices_size(), all ? Printable(name) : "GPUs");
}

// "everything recorded (100.00 % of bytes and faults)"
std::string Recorded(const Report& report) {
  const Capture& capture = report.capture();
  if (!LostFaultsSentence(report).empty()) return "most faults are missing";
  if (capture.has_delivered_share()) {
    const double share = capture.delivered_share();
    const AccountRow* entries = AccountOf(report, "gpu_fault_entries");
    const bool faults = entries != nullptr && entries->captured() == entries->exact();
    if (CompletenessSentence(report).empty() && share > 0.9999 && faults) {
      return fmt::format("everything recorded ({:.2f} % of bytes and faults)", 100 * share);
    }
    return fmt::format("{:.2f} % of the bytes recorded", 100 * share);
  }
  if (report.totals().estimated_size() > 0) return "~ marks estimates from a sample";
  if (capture.detail() == "calls") return "calls alone recorded";
  if (capture.has_reconstruction()) {
    return fmt::format("every fault recorded ({:.2f} % of the bytes explained by them)",
                       100 * capture.reconstruction().explained_share());
  }
  if (capture.has_exact_host_to_device_bytes()) return "bytes in all as the driver counted them";
  return capture.detail().empty() ? "" : "detail " + capture.detail();
}

void WriteHeader(TextWriter* writer) {
  const Report& report = writer->report();
  const Capture& capture = report.capture();
  if (capture.simulated()) {
    writer->Color("\033[33m");
    writer->Line("SIMULATED: counts and bytes follow the driver's policy; times say nothing about any hardware.");
    writer->Color("\033[0m");
  }
  std::string text = Command(capture);
  if (report.processes_size() > 1) text += fmt::format(", {} processes,", report.processes_size());
  if (capture.has_duration_ns()) text += " ran for " + FormatDuration(capture.duration_ns());
  text += Gpus(report);
  if (const std::string recorded = Recorded(report); !recorded.empty()) text += ", " + recorded;
  writer->Paragraph(text, "", "  ");
}

// Returns how many there are besides.
size_t WriteTopChanges(TextWriter* writer, const Room& room) {
  const Report& report = writer->report();
  const auto all = static_cast<size_t>(report.findings_size());
  size_t shown = std::min<size_t>(all, 1);
  while (shown < std::min(all, room.changes) && report.findings(static_cast<int>(shown)).severity() != "note") ++shown;
  writer->Heading("WHAT TO CHANGE");
  std::set<std::string> kinds;
  for (size_t number = 0; number < shown; ++number) {
    const FindingRow& row = report.findings(static_cast<int>(number));
    const bool told = !kinds.insert(row.id()).second;
    WriteFinding(writer, number + 1, row, told ? kHead : number == 0 ? room.first : room.others);
  }
  if (shown == 0) {
    const Totals& totals = report.totals();
    std::string why;
    if (report.capture().detail() == "calls") {
      why = ": faults, migrations and kernels were not recorded at this detail";
    } else if (Share(totals.fault_service_ns(), Evidence(report).gpu_time_ns()) >= 0.02) {
      why = fmt::format(": the {} that the GPU waited belong to no line that is known",
                        FormatDuration(totals.fault_service_ns()));
    }
    writer->Paragraph("nothing that this trace shows" + why);
  }
  return all - shown;
}

void WriteWhere(TextWriter* writer, size_t most) {
  const Report& report = writer->report();
  if (report.sites_size() == 0) return;
  const Evidence evidence(report);
  const InPlace in_place = InPlaceOf(evidence);
  Table table({{"WHERE", Align::kLeft},
               {"memory"},
               {"to GPU"},
               {"to host"},
               {"GPU waited"},
               {"faults"},
               {"how it is used", Align::kLeft}},
              "");
  const std::vector<const SiteRow*> rows = SitesByCost(report);
  const size_t shown = rows.size() <= most + 1 ? rows.size() : most;
  for (size_t i = 0; i < shown; ++i) {
    const SiteRow& row = *rows[i];
    const bool estimated = row.estimated();
    const auto bytes = [](bool known, uint64_t value) { return known ? FormatBytes(value) : std::string(); };
    std::string use = UseCell(row);
    if (in_place.site == &row) use += ", read in place";
    table.AddRow({Shortened("  " + SiteCell(row), 44), row.peak_bytes() > 0 ? FormatBytes(row.peak_bytes()) : "",
                  Estimated(bytes(row.has_host_to_device_bytes(), row.host_to_device_bytes()), estimated),
                  Estimated(bytes(row.has_device_to_host_bytes(), row.device_to_host_bytes()), estimated),
                  row.has_gpu_waited_ns() ? FormatDuration(row.gpu_waited_ns()) : "",
                  FaultCount(row) > 0 ? FormatCount(FaultCount(row)) : "0", use});
  }
  writer->Line("");
  writer->Add(table);
  if (rows.size() > shown) {
    writer->Line(fmt::format("  {} more lines: --section sites, or --tree", rows.size() - shown));
  }
}

// The name in front, the text beside it.
void WriteNamed(TextWriter* writer, const char* name, const std::string& text) {
  const std::string indent(kNameColumns + 2, ' ');
  writer->Paragraph(text, fmt::format("{:<{}}", name, kNameColumns + 2).c_str(), indent.c_str());
}

// The times of a chart's ends, over its columns.
std::string Axis(const Strips& strips) {
  const std::string left = FormatDuration(strips.start_ns);
  const std::string right = FormatDuration(strips.start_ns + strips.columns * strips.column_ns);
  const size_t used = left.size() + right.size();
  return left + std::string(strips.columns > used + 1 ? strips.columns - used : 2, ' ') + right;
}

void WriteWhen(TextWriter* writer, const Room& room) {
  const Report& report = writer->report();
  Strips strips = MakeStrips(report, kStripColumns);
  if (strips.rows.size() > room.strips) strips.rows.resize(room.strips);
  const Evidence evidence(report);
  const std::string thread = BottomHalfInFaults(evidence);
  const bool phases_wanted = report.phases_size() > 1 && room.phases > 0;
  if (strips.rows.empty() && thread.empty() && !phases_wanted) return;
  writer->Line("");
  if (!strips.rows.empty()) writer->Line(fmt::format("{:<{}}{}", "WHEN", kNameColumns + 3, Axis(strips)));
  for (const Strip& strip : strips.rows) {
    std::string peak = strip.peak;
    const auto capacity = evidence.LinkCapacity();
    if (strip.name.rfind("to ", 0) == 0 && capacity) peak += " of " + FormatRate(*capacity);
    writer->Line(fmt::format("  {:<10}|{}|  {}", strip.name, strip.bars, peak));
  }
  if (!thread.empty()) WriteNamed(writer, "BH THREAD", thread);
  if (phases_wanted) {
    std::string phases;
    size_t shown = 0;
    for (const PhaseRow& row : report.phases()) {
      if (shown++ == room.phases) break;
      phases += fmt::format("{}{} {}", phases.empty() ? "" : ", ", Printable(row.name()),
                            FormatDuration(row.has_duration_ns() ? row.duration_ns() : row.end_ns() - row.start_ns()));
      if (row.gpu_waited_ns() > 0) phases += fmt::format(" (GPU waited {})", FormatDuration(row.gpu_waited_ns()));
    }
    const auto all = static_cast<size_t>(report.phases_size());
    if (all > room.phases) phases += fmt::format(", {} more: --section phases", all - room.phases);
    WriteNamed(writer, "PHASES", phases);
  }
}

std::string Fits(const Report& report) {
  const Evidence evidence(report);
  std::string text;
  for (const CapacityRow& row : report.capacity()) {
    const uint64_t taken = std::min(row.plain_bytes() + row.others_bytes(), row.total_bytes());
    const uint64_t room = row.total_bytes() - taken;
    text += fmt::format("{}{} managed of {} free on {}", text.empty() ? "" : "; ",
                        FormatBytes(row.managed_peak_bytes()), FormatBytes(room), evidence.DeviceName(row.device()));
    if (row.managed_peak_bytes() <= room) {
      text += ": not oversubscribed";
    } else if (room > 0) {
      text += fmt::format(": oversubscribed {:.2f} times",
                          static_cast<double>(row.managed_peak_bytes()) / static_cast<double>(room));
    }
    if (row.evicted_bytes() > 0) text += fmt::format(", {} evicted", FormatBytes(row.evicted_bytes()));
  }
  if (!text.empty()) return text;
  const auto& fit = report.oversubscription();
  if (fit.managed_live_peak_bytes() > 0 && fit.has_device_capacity_bytes()) {
    text = fmt::format("{} managed at its peak, the GPU has {}", FormatBytes(fit.managed_live_peak_bytes()),
                       FormatBytes(fit.device_capacity_bytes()));
    if (fit.evicted_bytes() > 0) return text + fmt::format("; {} evicted", FormatBytes(fit.evicted_bytes()));
    return text + (fit.peak_ratio() > 1 ? ": oversubscribed" : ": not oversubscribed");
  }
  for (const char* kind : {"device", "pool", "physical", "pinned", "registered"}) {
    const MemoryRow* row = evidence.Memory(kind);
    if (row == nullptr || row->peak_bytes() == 0) continue;
    text += fmt::format("{}{} {}", text.empty() ? "peaks: " : ", ", FormatBytes(row->peak_bytes()), kind);
  }
  return text;
}

std::string Tracing(const Report& report) {
  const Capture& capture = report.capture();
  std::string text;
  if (capture.has_tool_cost() && capture.duration_ns() > 0) {
    const ToolCost& cost = capture.tool_cost();
    const uint64_t in_program = cost.calls_ns() + cost.start_ns() + cost.time_stamps_ns();
    text = fmt::format("cost about {} ({})", FormatPercent(Share(in_program, capture.duration_ns())),
                       FormatDuration(in_program));
  } else {
    text = "its cost is not known";
  }
  const std::string loss = LossSentence(report);
  const std::string missing = CompletenessSentence(report);
  if (!missing.empty()) text += "; " + missing.substr(0, missing.find(". "));
  if (!loss.empty()) {
    text += "; " + loss.substr(0, loss.find(", so "));
    if (text.back() == '.') text.pop_back();
  }
  if (loss.empty() && missing.empty()) text += "; nothing was lost";
  const int not_seen = report.not_seen_size();
  if (not_seen == 0) return text + "; not seen: nothing that is known";
  return text + fmt::format("; not seen: {}", not_seen == 1 ? "1 thing" : fmt::format("{} things", not_seen));
}

void WriteScreen(TextWriter* writer, const Room& room) {
  const Report& report = writer->report();
  WriteHeader(writer);
  if (!report.headline().empty()) {
    writer->Line("");
    writer->Paragraph(report.headline());
  }
  const size_t changes = WriteTopChanges(writer, room);
  WriteWhere(writer, room.sites);
  WriteWhen(writer, room);
  if (const std::string fits = Fits(report); !fits.empty()) WriteNamed(writer, "FITS", fits);
  WriteNamed(writer, "TRACING", Tracing(report));
  const std::string more = changes == 0 ? "" : fmt::format(" (changes: {} more)", changes);
  WriteNamed(writer, "", fmt::format("more: --section NAME{}, --tree, --top N, --format json", more));
}

}  // namespace

void WriteFirstScreen(TextWriter* writer) {
  std::string text;
  for (const Room& room : kRooms) {
    TextWriter screen(writer->report(), writer->options());
    WriteScreen(&screen, room);
    const bool fits = screen.lines() <= kScreenLines;
    text = screen.Take();
    if (fits) break;
  }
  text.pop_back();  // the end of its last line
  writer->Line(text);
}

}  // namespace uvmtrace::analyzer
