#include "analyzer/present/strips.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "analyzer/present/text_writer.h"
#include "analyzer/units.h"

namespace uvmtrace::analyzer {
namespace {

constexpr size_t kWidestChart = 64;
constexpr size_t kNarrowestChart = 3;  // less has no shape

// Anything above nothing is seen.
std::string Bars(const std::vector<double>& values, double peak) {
  static constexpr std::array kBlocks = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  std::string bars;
  for (const double value : values) {
    if (value <= 0 || peak <= 0) {
      bars += ' ';
      continue;
    }
    const auto level = static_cast<size_t>(value / peak * static_cast<double>(kBlocks.size()));
    bars += kBlocks[std::min(level, kBlocks.size() - 1)];
  }
  return bars;
}

}  // namespace

Strips MakeStrips(const Report& report, size_t widest) {
  Strips strips;
  const auto& rows = report.bandwidth();
  if (rows.empty() || widest == 0) return strips;
  const uint64_t step_ns = std::max<uint64_t>(rows[0].duration_ns(), 1);
  const uint64_t first = rows[0].start_ns() / step_ns;
  const auto steps = static_cast<size_t>(rows[rows.size() - 1].start_ns() / step_ns - first + 1);
  const size_t fold = (steps + widest - 1) / widest;
  strips.columns = (steps + fold - 1) / fold;
  strips.start_ns = first * step_ns;
  strips.column_ns = step_ns * fold;
  if (strips.columns < kNarrowestChart) return strips;
  std::array<std::vector<double>, 4> values;
  for (auto& series : values) series.resize(strips.columns, 0);
  for (const BandwidthRow& row : rows) {
    const size_t column = std::min(static_cast<size_t>(row.start_ns() / step_ns - first) / fold, strips.columns - 1);
    values[0][column] += static_cast<double>(row.host_to_device_bytes());
    values[1][column] += static_cast<double>(row.device_to_host_bytes());
    values[2][column] += static_cast<double>(row.gpu_faults());
    values[3][column] += static_cast<double>(row.cpu_faults());
  }
  static constexpr std::array kNames = {"to GPU", "to host", "GPU faults", "CPU faults"};
  const double seconds = static_cast<double>(strips.column_ns) / 1e9;
  for (size_t i = 0; i < values.size(); ++i) {
    const double peak = *std::max_element(values[i].begin(), values[i].end());
    if (peak <= 0) continue;
    const double rate = peak / seconds;
    strips.rows.push_back(
        {kNames[i], Bars(values[i], peak),
         "up to " +
             (i < 2 ? FormatRate(rate) : FormatCount(static_cast<uint64_t>(std::min(rate, 1e18))) + " a second")});
  }
  return strips;
}

void WriteBandwidth(TextWriter* writer) {
  const Strips strips = MakeStrips(writer->report(), kWidestChart);
  if (strips.rows.empty()) return;
  writer->Heading("OVER TIME");
  for (const Strip& strip : strips.rows) {
    writer->Line(fmt::format("  {:<10}  |{}|  {}", strip.name, strip.bars, strip.peak));
  }
  writer->Paragraph(fmt::format(
      "From {} to {} after the start, a column for each {}, from the driver's own counters: exact, migrations recorded "
      "or not.",
      FormatDuration(strips.start_ns), FormatDuration(strips.start_ns + strips.columns * strips.column_ns),
      FormatDuration(strips.column_ns)));
}

}  // namespace uvmtrace::analyzer
