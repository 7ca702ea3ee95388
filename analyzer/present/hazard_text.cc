// Hazards: what each place in the code did and what to do about it, then what was looked for in vain.
#include <fmt/format.h>

#include <algorithm>

#include "analyzer/present/text_writer.h"
#include "analyzer/short_name.h"
#include "analyzer/units.h"

namespace uvmtrace::analyzer {
namespace {

std::string Words(const std::string& hazard) {
  if (hazard == "double_free") return "double free";
  if (hazard == "interior_free") return "free of an interior pointer";
  if (hazard == "use_after_free") return "use after free";
  if (hazard == "unmap_under_kernel") return "unmap under a running kernel";
  if (hazard == "touch_under_kernel") return "touch by the CPU under a running kernel";
  if (hazard == "free_waited") return "free that waited for kernels";
  if (hazard == "unused_prefetch") return "prefetch that nothing used";
  if (hazard == "refused_hint") return "prefetch or advice without effect";
  return hazard;
}

std::string Where(const HazardRow& row) {
  std::string text;
  const auto add = [&text](const std::string& words, const std::string& site) {
    if (!site.empty()) text += (text.empty() ? "" : "; ") + words + Printable(ShortName(site));
  };
  add("kernel ", row.kernel());
  add(row.function().empty() ? "touched by " : "called by ", row.site());
  add("freed before by ", row.freed_site());
  add("allocated by ", row.memory_site());
  return text;
}

}  // namespace

void WriteHazards(TextWriter* writer) {
  const Hazards& hazards = writer->report().hazards();
  writer->Heading("HAZARDS");
  for (const HazardRow& row : hazards.rows()) {
    writer->Paragraph(
        fmt::format("{}: {}, {}{} {}{}", row.severity(), Words(row.hazard()),
                    row.count() == 1 ? "once" : FormatCount(row.count()) + " times", row.count() == 1 ? "," : ", first",
                    FormatDuration(row.first_ns()) + " after the start",
                    row.has_pid() ? fmt::format(", in pid {}", row.pid()) : ""),
        "  ! ", "    ");
    writer->Paragraph(Printable(row.what()) + ".", "    ", "    ");
    if (const std::string where = Where(row); !where.empty()) writer->Paragraph(where, "    ", "      ");
    if (writer->options().stacks) {
      for (const std::string& frame : row.stack()) writer->Line("      " + Printable(frame));
    }
    writer->Paragraph(row.advice(), "    > ", "      ");
  }
  TextWriter::Facts facts;
  for (const HazardCheckRow& check : hazards.checks()) {
    if (!check.reason().empty()) facts.emplace_back(Words(check.hazard()), check.reason());
  }
  writer->AddFacts(facts, Table::Align::kLeft);
}

}  // namespace uvmtrace::analyzer
