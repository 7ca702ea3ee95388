// Aligned columns of text, and paragraphs, for a terminal of a given width.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace uvmtrace::analyzer {

class Table {
 public:
  enum class Align { kLeft, kRight };
  struct Column {
    std::string title;
    Align align = Align::kRight;
  };

  // `indent` stands before each line.
  explicit Table(std::vector<Column> columns, std::string_view indent = "  ")
      : columns_(std::move(columns)), indent_(indent) {}

  // As many cells as columns.
  void AddRow(std::vector<std::string> cells) { rows_.push_back({std::move(cells), {}}); }
  // Lines below the last row, indented, over the whole width.
  void AddNote(std::string line) { rows_.back().notes.push_back(std::move(line)); }

  // Columns whose every cell is empty are left out. With a width, cells of the last column are cut to fit; 0: no limit.
  std::string Render(size_t width, bool color) const;

 private:
  struct Row {
    std::vector<std::string> cells;
    std::vector<std::string> notes;
  };
  std::vector<Column> columns_;
  std::string indent_;
  std::vector<Row> rows_;
};

// Columns that a text takes on a terminal.
size_t Columns(std::string_view text);

// Breaks a paragraph at spaces, but not between a number and its unit; the first line starts with `first`, the others
// with `rest`.
std::string Wrap(std::string_view text, std::string_view first, std::string_view rest, size_t width);

// Makes text from a trace harmless for a terminal: control characters become '?'.
std::string Printable(std::string_view text);

}  // namespace uvmtrace::analyzer
