#include "analyzer/present/table.h"

#include <algorithm>
#include <iterator>

namespace uvmtrace::analyzer {

// Bytes that continue a UTF-8 character take none.
size_t Columns(std::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

namespace {

constexpr std::string_view kGap = "  ";

std::string Cut(const std::string& text, size_t columns) {
  if (Columns(text) <= columns) return text;
  if (columns <= 3) return std::string(columns, '.');
  std::string cut;
  size_t used = 0;
  for (const char c : text) {
    used += (static_cast<unsigned char>(c) & 0xc0) != 0x80;
    if (used > columns - 3) break;
    cut += c;
  }
  return cut + "...";
}

// "54 %", "1.39 ms": a number and its unit stay on one line.
bool IsUnit(std::string_view word) {
  while (!word.empty() && (word.back() == ',' || word.back() == '.' || word.back() == ';' || word.back() == ')')) {
    word.remove_suffix(1);
  }
  static constexpr std::string_view kUnits[] = {"%",   "ns",  "us",  "ms",  "s",    "h",    "B",
                                                "KiB", "MiB", "GiB", "TiB", "KB/s", "MB/s", "GB/s"};
  return std::find(std::begin(kUnits), std::end(kUnits), word) != std::end(kUnits);
}

void TrimEnd(std::string* line) {
  while (!line->empty() && line->back() == ' ') line->pop_back();
}

}  // namespace

std::string Table::Render(size_t width, bool color) const {
  std::vector<size_t> widths(columns_.size(), 0);
  for (size_t column = 0; column < columns_.size(); ++column) {
    for (const Row& row : rows_) widths[column] = std::max(widths[column], Columns(row.cells[column]));
    if (widths[column] > 0) widths[column] = std::max(widths[column], Columns(columns_[column].title));
  }
  const size_t last = columns_.size() - 1;
  if (width > 0) {
    size_t before = indent_.size();
    for (size_t column = 0; column < last; ++column) {
      if (widths[column] > 0) before += widths[column] + kGap.size();
    }
    // Even a narrow terminal shows the beginning of a name.
    widths[last] = std::min(widths[last], std::max<size_t>(width > before ? width - before : 0, 20));
  }
  const auto line = [&](const auto& cell) {
    std::string text(indent_);
    bool first = true;
    for (size_t column = 0; column < columns_.size(); ++column) {
      if (widths[column] == 0) continue;
      if (!first) text += kGap;
      first = false;
      const std::string content = Cut(cell(column), widths[column]);
      const std::string padding(widths[column] - Columns(content), ' ');
      text += columns_[column].align == Align::kRight ? padding + content : content + padding;
    }
    TrimEnd(&text);
    return text;
  };
  std::string text;
  if (color) text += "\033[2m";
  text += line([this](size_t column) { return columns_[column].title; });
  if (color) text += "\033[0m";
  text += '\n';
  for (const Row& row : rows_) {
    text += line([&row](size_t column) { return row.cells[column]; }) + '\n';
    for (const std::string& note : row.notes) text += "        " + (width > 8 ? Cut(note, width - 8) : note) + '\n';
  }
  return text;
}

std::string Wrap(std::string_view text, std::string_view first, std::string_view rest, size_t width) {
  std::string wrapped;
  std::string line(first);
  bool empty = true;
  size_t position = 0;
  while (position < text.size()) {
    size_t end = std::min(text.find(' ', position), text.size());
    const bool number = end > position && text[end - 1] >= '0' && text[end - 1] <= '9';
    if (number && end < text.size()) {
      const size_t unit_end = std::min(text.find(' ', end + 1), text.size());
      if (IsUnit(text.substr(end + 1, unit_end - end - 1))) end = unit_end;
    }
    const std::string_view word = text.substr(position, end - position);
    position = end + 1;
    if (word.empty()) continue;
    if (!empty && Columns(line) + 1 + Columns(word) > width) {
      wrapped += line + '\n';
      line = rest;
      empty = true;
    }
    if (!empty) line += ' ';
    line += word;
    empty = false;
  }
  return wrapped + line + '\n';
}

std::string Printable(std::string_view text) {
  std::string printable(text);
  for (char& c : printable) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return printable;
}

}  // namespace uvmtrace::analyzer
