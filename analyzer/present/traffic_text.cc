// Everything that crossed the link, in one table, and the link itself.
#include <fmt/format.h>

#include "analyzer/explain/evidence.h"
#include "analyzer/explain/host_memory.h"
#include "analyzer/present/text_writer.h"
#include "analyzer/units.h"

namespace uvmtrace::analyzer {
namespace {

using Align = Table::Align;

std::string Way(const std::string& way) {
  if (way == "pageable_copy") return "copies, pageable memory";
  if (way == "pinned_copy") return "copies, pinned memory";
  if (way == "copy") return "copies";
  if (way == "migration") return "migrations";
  if (way == "in_place") return "read in place (zero-copy)";
  if (way == "other") return "not explained by the rows above";
  return way;
}

std::string Direction(const std::string& direction) {
  if (direction == "host_to_device") return "host to GPU";
  if (direction == "device_to_host") return "GPU to host";
  if (direction == "device_to_device") return "GPU to GPU";
  return direction;
}

std::string MeasuredBy(const std::string& source) {
  if (source == "driver_counters") return "the driver's counters";
  if (source == "driver_queue") return "the driver's event queue";
  if (source == "calls") return "the calls' arguments";
  if (source == "cupti") return "CUPTI";
  if (source == "link_counters") return "the link's counters";
  return source;
}

}  // namespace

void WriteTraffic(TextWriter* writer) {
  const Report& report = writer->report();
  if (report.traffic_size() == 0) return;
  writer->Heading("TRAFFIC OVER THE LINK");
  Table table({{"GPU", Align::kLeft},
               {"direction", Align::kLeft},
               {"way", Align::kLeft},
               {"bytes"},
               {"busy"},
               {"throughput"},
               {"of the link"},
               {"measured by", Align::kLeft}});
  for (const TrafficRow& row : report.traffic()) {
    table.AddRow({report.devices_size() > 1 ? writer->DeviceName(row.device()) : "", Direction(row.direction()),
                  Way(row.way()), FormatBytes(row.bytes()), row.busy_ns() > 0 ? FormatDuration(row.busy_ns()) : "",
                  row.has_bytes_per_second() ? FormatRate(row.bytes_per_second()) : "",
                  row.has_share_of_link() ? FormatPercent(row.share_of_link()) : "", MeasuredBy(row.measured_by())});
  }
  writer->Add(table);
  for (const TrafficRow& row : report.traffic()) {
    if (!row.note().empty()) writer->Paragraph(fmt::format("{}: {}", Way(row.way()), row.note()));
  }
  for (const LinkRow& link : report.links()) {
    std::string text = writer->DeviceName(link.device()) + ": ";
    if (link.has_generation()) text += fmt::format("PCIe {} x{}, ", link.generation(), link.width());
    if (link.has_capacity_bytes_per_second()) {
      text += FormatRate(link.capacity_bytes_per_second()) + " each way at most";
    } else {
      text += "what its link can carry is not known";
    }
    if (link.has_received_bytes()) {
      text += fmt::format("; {} came to it and {} left it in {}, packet headers included and of all processes",
                          FormatBytes(link.received_bytes()), FormatBytes(link.sent_bytes()),
                          FormatDuration(link.span_ns()));
    }
    if (link.has_full_share()) text += fmt::format("; it was full for {} of that", FormatPercent(link.full_share()));
    writer->Paragraph(text + ".");
  }
  const Evidence evidence(report);
  const InPlace in_place = InPlaceOf(evidence);
  if (in_place.bytes > 0) {
    writer->Paragraph(
        fmt::format("{} were read in place: no fault, no migration and no copy shows it. It is what the link's "
                    "counters hold beyond "
                    "copies and migrations and their packet headers. Not told apart from it: traffic of other "
                    "processes on this GPU, "
                    "command and instruction fetches, and peers.",
                    FormatBytes(in_place.bytes)));
  }
}

}  // namespace uvmtrace::analyzer
