// How the calls were seen, and whether all of them were: lines of the capture section.
#include <fmt/format.h>

#include "analyzer/present/text_writer.h"
#include "analyzer/units.h"

namespace uvmtrace::analyzer {
namespace {

std::string DoorWords(const std::string& door) {
  if (door == "runtime_symbol") return "through cuda* symbols";
  if (door == "driver_symbol") return "through cu* symbols";
  if (door == "get_proc_address") return "through pointers from cuGetProcAddress";
  if (door == "cupti") return "found without a call";
  return "by an unknown door";
}

std::string Doors(const Coverage& coverage) {
  std::string text;
  for (const DoorRow& row : coverage.doors()) {
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", FormatCount(row.calls()), DoorWords(row.door()));
  }
  return text;
}

std::string Api(const ApiCoverageRow& row) {
  if (row.happened() == 0) return fmt::format("no {} call besides", row.api());
  std::string text = fmt::format("{} of {} calls of the {}", FormatCount(row.seen() + row.seen_beneath()),
                                 FormatCount(row.happened()), row.api());
  if (row.seen_beneath() > 0) {
    text += fmt::format(", {} by the driver calls beneath them, as those of a statically linked runtime are",
                        row.seen_beneath() == row.happened() ? "all" : FormatCount(row.seen_beneath()) + " of them");
  }
  return fmt::format("{} ({:.2f} %)", text, 100 * row.share());
}

}  // namespace

void AddCoverageFacts(const Capture& capture, TextWriter::Facts* facts) {
  const Coverage& coverage = capture.coverage();
  if (const std::string doors = Doors(coverage); !doors.empty()) facts->emplace_back("calls came", doors);
  std::string audit;
  for (const ApiCoverageRow& row : coverage.apis()) audit += (audit.empty() ? "" : "; ") + Api(row);
  if (!audit.empty()) audit = "as CUPTI counted, the doors saw " + audit;
  if (!coverage.note().empty()) audit += (audit.empty() ? "not checked: " : "; ") + coverage.note();
  if (!audit.empty()) facts->emplace_back("coverage", audit);
  for (const CoverageGapRow& row : coverage.gaps()) {
    facts->emplace_back(
        "not seen", fmt::format("{} of {} calls of {}{}", FormatCount(row.happened() - row.seen() - row.seen_beneath()),
                                FormatCount(row.happened()), row.function(),
                                row.explanation().empty() ? "" : ": " + row.explanation()));
  }
}

}  // namespace uvmtrace::analyzer
