// The pieces that every section of the text report is made of.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "analyzer/present/table.h"
#include "analyzer/present/text.h"

namespace uvmtrace::analyzer {

class TextWriter {
 public:
  TextWriter(const Report& report, const TextOptions& options) : report_(report), options_(options) {}

  void Heading(const std::string& title);
  void Paragraph(const std::string& sentence, const char* first = "  ", const char* rest = "  ");
  void Add(const Table& table);
  void Line(const std::string& line) { text_ += line + '\n'; }
  void Color(const char* code) {
    if (options_.color) text_ += code;
  }

  // Names and values; values are wrapped, never cut.
  using Facts = std::vector<std::pair<std::string, std::string>>;
  void AddFacts(const Facts& facts, Table::Align align);

  // Says why a section is empty; false if it is not.
  bool Empty(const std::string& section);
  // The reason alone; empty if the section is not.
  std::string ReasonOf(const std::string& section) const;

  bool Within(size_t row) const { return options_.top == 0 || row < options_.top; }
  // "GPU 0" for a uuid; the uuid itself if the report does not know the device.
  std::string DeviceName(const std::string& uuid) const;

  const Report& report() const { return report_; }
  const TextOptions& options() const { return options_; }
  std::string Take() { return std::move(text_); }
  size_t lines() const;  // so far
  size_t ParagraphWidth() const;

 private:
  const Report& report_;
  const TextOptions& options_;
  std::string text_;
};

// "1 batch", "12 batches".
std::string Plural(uint64_t count, const std::string& one, const std::string& many);

// A number that is an estimate has a ~ in front.
std::string Estimated(const std::string& text, bool estimated);

// "a.cc:12 in Ma..." if it is wider.
std::string Shortened(const std::string& text, size_t columns);

// Sections, each in its own file. The table in text.cc has their names and their order.
void WriteOutOfMemory(TextWriter* writer);
void WriteFirstScreen(TextWriter* writer);
void WriteChanges(TextWriter* writer);
void WriteSites(TextWriter* writer);
void WriteTree(TextWriter* writer);
void WriteSharedPages(TextWriter* writer);
void WriteCallSites(TextWriter* writer);
void WriteKernelSites(TextWriter* writer);
void WriteCpuFaultTargets(TextWriter* writer);
void WritePhases(TextWriter* writer);
void WriteTraffic(TextWriter* writer);
void WriteHazards(TextWriter* writer);
void WriteFaults(TextWriter* writer);
void WriteBandwidth(TextWriter* writer);
void WriteBottomHalf(TextWriter* writer);
void WriteCapture(TextWriter* writer);
// Lines of the capture section.
void AddCoverageFacts(const uvmtrace::Capture& capture, TextWriter::Facts* facts);

}  // namespace uvmtrace::analyzer
