#include "analyzer/compare/diff_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "analyzer/compare/rows.h"
#include "analyzer/present/table.h"
#include "analyzer/units.h"

namespace uvmtrace::analyzer {
namespace {

constexpr int kValuesOfRow = 3;

// A line of a table: the first line of a row names it.
struct Line {
  std::string status;
  std::string quantity;
  std::string before;
  std::string after;
  std::string change;
  std::string where;
};

struct Section {
  std::string name;
  std::vector<Line> lines;
  size_t left_out = 0;  // rows
};

std::string Words(std::string field) {
  if (field.size() > 3 && field.substr(field.size() - 3) == "_ns") field.resize(field.size() - 3);
  std::replace(field.begin(), field.end(), '_', ' ');
  return field;
}

std::string Sign(double change) {
  return fmt::format("{}{:.{}f} %", change < 0 ? "-" : "+", std::fabs(change) * 100, std::fabs(change) < 0.1 ? 1 : 0);
}

std::string Number(const std::string& field, bool known, double value, double low, double high) {
  if (!known) return "-";
  const std::string median = FormatField(field, value);
  return low == high ? median : fmt::format("{} ({} .. {})", median, FormatField(field, low), FormatField(field, high));
}

std::string WhereOf(const DiffRow& row) {
  const std::string label = Printable(row.label());
  return row.former_key().empty() ? label : label + " (its call stack changed)";
}

std::vector<Section> SectionsOf(const Diff& diff, const DiffTextOptions& options) {
  std::vector<Section> sections;
  size_t shown = 0;
  for (const DiffRow& row : diff.rows()) {
    if (sections.empty() || sections.back().name != row.section()) {
      sections.push_back({row.section(), {}, 0});
      shown = 0;
    }
    Section& section = sections.back();
    if (options.top != 0 && shown >= options.top) {
      ++section.left_out;
      continue;
    }
    ++shown;
    const int limit = row.section() == "totals" ? row.values_size() : std::min(row.values_size(), kValuesOfRow);
    for (int i = 0; i < limit; ++i) {
      const DiffValue& value = row.values(i);
      Line line;
      if (i == 0) {
        line.status = row.status();
        line.where = WhereOf(row);
      }
      line.quantity = Words(value.field());
      line.before = Number(value.field(), value.has_base(), value.base(), value.base_low(), value.base_high());
      line.after =
          Number(value.field(), value.has_changed(), value.changed(), value.changed_low(), value.changed_high());
      if (value.has_change()) line.change = Sign(value.change());
      section.lines.push_back(std::move(line));
    }
    if (limit == 0) section.lines.push_back({row.status(), "", "", "", "", WhereOf(row)});
    if (row.section() == "totals") {
      for (Line& line : section.lines) line.status = line.where = "";
    }
  }
  return sections;
}

std::string Joined(const google::protobuf::RepeatedPtrField<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + Printable(name);
  return text;
}

std::string HowSure(const Diff& diff) {
  const int before = diff.base_size();
  const int after = diff.changed_size();
  const std::string small = fmt::format("Changes below {:.3g} % are left out", diff.threshold() * 100);
  if (before == 1 && after == 1) {
    return small +
           ". One run on each side cannot tell a change from noise: add runs as further arguments, and with --base.";
  }
  double chance = 1;
  for (const DiffRow& row : diff.rows()) {
    for (const DiffValue& value : row.values()) {
      if (value.has_chance()) chance = value.chance();
    }
  }
  return fmt::format(
      "{}, and so are those whose runs overlap. A number is the median of {} runs before and {} after. Runs of equal "
      "programs lie this far apart in {} of all cases, for each number.",
      small, before, after, FormatPercent(chance));
}

std::string Title(std::string section) {
  std::replace(section.begin(), section.end(), '_', ' ');
  return section;
}

// A pipe would end a cell of a Markdown table, and a name may be HTML to its reader.
std::string Cell(const std::string& text) {
  std::string cell;
  for (const char c : text) {
    if (c == '|')
      cell += "\\|";
    else if (c == '<')
      cell += "&lt;";
    else
      cell += c;
  }
  return cell;
}

std::string GateLine(const GateRow& gate) {
  const char* const state = !gate.has_failed() ? "cannot be told" : gate.failed() ? "FAILED" : "passed";
  return fmt::format("{}: {}{}", Printable(gate.expression()), state, gate.note().empty() ? "" : ", " + gate.note());
}

}  // namespace

std::string RenderText(const Diff& diff, const DiffTextOptions& options) {
  const size_t width = options.width == 0 ? 100 : std::min<size_t>(options.width, 100);
  std::string text = Wrap(Joined(diff.base()), "before  ", "        ", width);
  text += Wrap(Joined(diff.changed()), "after   ", "        ", width);
  text += Wrap(HowSure(diff), "", "", width);
  for (const Section& section : SectionsOf(diff, options)) {
    std::string title = Title(section.name);
    std::transform(title.begin(), title.end(), title.begin(), [](unsigned char c) { return std::toupper(c); });
    text += "\n" + title + "\n";
    Table table({{"", Table::Align::kLeft},
                 {"", Table::Align::kLeft},
                 {"before"},
                 {"after"},
                 {"change"},
                 {"of", Table::Align::kLeft}});
    for (const Line& line : section.lines) {
      table.AddRow({line.status, line.quantity, line.before, line.after, line.change, line.where});
    }
    text += table.Render(options.width, options.color);
    if (section.left_out > 0) text += fmt::format("  {} more; --top 0 shows all\n", section.left_out);
  }
  if (diff.rows_size() == 0) text += "\nnothing changed\n";
  if (diff.gates_size() > 0) text += "\nGATES\n";
  for (const GateRow& gate : diff.gates()) text += Wrap(GateLine(gate), "  ", "    ", width);
  return text;
}

std::string RenderMarkdown(const Diff& diff, const DiffTextOptions& options) {
  std::string text =
      fmt::format("**uvmtrace**: {} against {}\n\n", Cell(Joined(diff.changed())), Cell(Joined(diff.base())));
  for (const GateRow& gate : diff.gates()) text += fmt::format("- {}\n", Cell(GateLine(gate)));
  if (diff.gates_size() > 0) text += '\n';
  for (const Section& section : SectionsOf(diff, options)) {
    text += fmt::format("### {}\n\n| | quantity | before | after | change | of |\n|---|---|--:|--:|--:|---|\n",
                        Title(section.name));
    for (const Line& line : section.lines) {
      text += fmt::format("| {} | {} | {} | {} | {} | {} |\n", line.status, line.quantity, line.before, line.after,
                          line.change, Cell(line.where));
    }
    if (section.left_out > 0) text += fmt::format("\n{} more rows.\n", section.left_out);
    text += '\n';
  }
  if (diff.rows_size() == 0) text += "Nothing changed.\n\n";
  return text + HowSure(diff) + '\n';
}

}  // namespace uvmtrace::analyzer
