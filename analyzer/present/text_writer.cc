#include "analyzer/present/text_writer.h"

#include <fmt/format.h>

#include <algorithm>

#include "analyzer/units.h"

namespace uvmtrace::analyzer {
namespace {

constexpr size_t kParagraphWidth = 100;

}  // namespace

size_t TextWriter::ParagraphWidth() const {
  return options_.width > 0 ? std::min(options_.width, kParagraphWidth) : kParagraphWidth;
}

size_t TextWriter::lines() const { return static_cast<size_t>(std::count(text_.begin(), text_.end(), '\n')); }

void TextWriter::Heading(const std::string& title) {
  if (!text_.empty()) text_ += '\n';
  text_ += options_.color ? "\033[1m" + title + "\033[0m\n" : title + "\n";
}

void TextWriter::Paragraph(const std::string& sentence, const char* first, const char* rest) {
  text_ += Wrap(Printable(sentence), first, rest, ParagraphWidth());
}

void TextWriter::Add(const Table& table) { text_ += table.Render(options_.width, options_.color); }

void TextWriter::AddFacts(const Facts& facts, Table::Align align) {
  size_t names = 0;
  for (const auto& fact : facts) names = std::max(names, fact.first.size());
  for (const auto& [name, value] : facts) {
    const std::string padding(names - name.size(), ' ');
    const std::string first = "  " + (align == Table::Align::kRight ? padding + name : name + padding) + "  ";
    text_ += Wrap(Printable(value), first, std::string(first.size(), ' '), ParagraphWidth());
  }
}

std::string TextWriter::ReasonOf(const std::string& section) const {
  for (const EmptySection& empty : report_.empty_sections()) {
    if (empty.section() == section) return empty.reason();
  }
  return "";
}

bool TextWriter::Empty(const std::string& section) {
  const std::string reason = ReasonOf(section);
  if (!reason.empty()) Paragraph("none: " + reason);
  return !reason.empty();
}

std::string TextWriter::DeviceName(const std::string& uuid) const {
  for (const DeviceRow& device : report_.devices()) {
    if (!uuid.empty() && device.uuid() == uuid) return fmt::format("GPU {}", device.ordinal());
  }
  return uuid;
}

std::string Plural(uint64_t count, const std::string& one, const std::string& many) {
  return FormatCount(count) + " " + (count == 1 ? one : many);
}

std::string Shortened(const std::string& text, size_t columns) {
  if (Columns(text) <= columns || columns < 4) return text;
  std::string cut;
  for (const char c : text) {
    const bool begins = (static_cast<unsigned char>(c) & 0xc0) != 0x80;
    if (begins && Columns(cut) == columns - 3) break;
    cut += c;
  }
  return cut + "...";
}

std::string Estimated(const std::string& text, bool estimated) {
  return estimated && !text.empty() ? "~" + text : text;
}

}  // namespace uvmtrace::analyzer
