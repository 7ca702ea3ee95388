// What to change: the findings, each with its place, what it would save, the figures of this run, and the call.
#include "analyzer/present/change_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "analyzer/units.h"

namespace uvmtrace::analyzer {
namespace {

// "~69 ms (39 % of GPU time)"
std::string Saving(const FindingRow& row) {
  const char* const base = row.gain_base() == "run" ? "run" : "GPU time";
  if (row.has_gain_ns()) {
    const std::string share =
        row.has_gain_share() ? fmt::format(" ({} of {})", FormatPercent(std::min(row.gain_share(), 1.0)), base) : "";
    return "~" + FormatDuration(row.gain_ns()) + share;
  }
  if (row.cost_ns() > 0) return "part of " + FormatDuration(row.cost_ns());
  if (row.severity() == "error") return "error";
  return row.bytes() > 0 ? FormatBytes(row.bytes()) : "";
}

// Up to the first end of a sentence: a period before a space and a capital. File names and figures have none.
std::string FirstSentence(const std::string& text) {
  for (size_t end = text.find(". "); end != std::string::npos; end = text.find(". ", end + 1)) {
    if (end + 2 < text.size() && std::isupper(static_cast<unsigned char>(text[end + 2])) != 0)
      return text.substr(0, end + 1);
  }
  return text;
}

}  // namespace

void WriteFinding(TextWriter* writer, size_t number, const FindingRow& row, FindingText text) {
  const std::string head = fmt::format("  {}  {}", number, Printable(row.title()));
  const std::string place = Printable(row.place());
  const std::string saving = Saving(row);
  const size_t width = writer->ParagraphWidth();
  const size_t used = Columns(head) + 2 + Columns(place) + 2 + Columns(saving);
  const auto right = [&](const std::string& left) {
    const size_t columns = Columns(left) + Columns(saving);
    return left + std::string(width > columns + 2 ? width - columns : 2, ' ') + saving;
  };
  if (used <= width) {
    // The places of neighbours stand beneath each other where they can.
    constexpr size_t kPlaceColumn = 40;
    std::string left = head;
    const size_t wanted = std::max(kPlaceColumn, Columns(head) + 2);
    if (wanted + Columns(place) + 2 + Columns(saving) <= width)
      left += std::string(wanted - Columns(head), ' ');
    else
      left += "  ";
    writer->Line(right(left + place));
  } else {
    writer->Line(right(head));
    writer->Paragraph("at " + place, "     ", "       ");
  }
  if (text == FindingText::kHead) return;
  const bool whole = text == FindingText::kWhole;
  writer->Paragraph(whole ? row.sentence() : FirstSentence(row.sentence()), "     ", "     ");
  if (row.change().empty()) return;
  const std::string change = whole ? row.change() + "." : FirstSentence(row.change() + ".");
  const bool try_it = whole && !row.try_it().empty();
  writer->Paragraph(change + (try_it ? " Try it: " + row.try_it() : ""), "     > ", "       ");
}

void WriteChanges(TextWriter* writer) {
  const Report& report = writer->report();
  writer->Heading("WHAT TO CHANGE");
  if (report.findings_size() == 0) {
    writer->Paragraph("nothing that this trace shows");
    return;
  }
  size_t number = 0;
  for (const FindingRow& row : report.findings()) {
    if (!writer->Within(number)) break;
    WriteFinding(writer, ++number, row);
    if (!row.assumption().empty()) writer->Paragraph("Gain: " + row.assumption() + ".", "     ", "     ");
  }
}

}  // namespace uvmtrace::analyzer
