#include "analyzer/units.h"

#include <fmt/format.h>

#include <array>
#include <cmath>

namespace uvmtrace::analyzer {
namespace {

// Three digits that matter: 1.23, 12.3, 123.
std::string ThreeDigits(double value) {
  if (value < 9.995) return fmt::format("{:.2f}", value);
  if (value < 99.95) return fmt::format("{:.1f}", value);
  return fmt::format("{:.0f}", value);
}

}  // namespace

std::string FormatBytes(uint64_t bytes) {
  if (bytes < 1024) return fmt::format("{} B", bytes);
  static constexpr std::array kUnits = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  double value = static_cast<double>(bytes) / 1024;
  size_t unit = 0;
  while (value >= 1023.5 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  return fmt::format("{} {}", ThreeDigits(value), kUnits[unit]);
}

std::string FormatDuration(uint64_t nanoseconds) {
  const auto value = static_cast<double>(nanoseconds);
  if (nanoseconds < 1000) return fmt::format("{} ns", nanoseconds);
  if (value < 999.5e3) return fmt::format("{} us", ThreeDigits(value / 1e3));
  if (value < 999.5e6) return fmt::format("{} ms", ThreeDigits(value / 1e6));
  if (value < 9999.5e9) return fmt::format("{} s", ThreeDigits(value / 1e9));
  return fmt::format("{} h", ThreeDigits(value / 3600e9));
}

std::string FormatRate(double bytes_per_second) {
  if (bytes_per_second < 999.5e3) return fmt::format("{} KB/s", ThreeDigits(bytes_per_second / 1e3));
  if (bytes_per_second < 999.5e6) return fmt::format("{} MB/s", ThreeDigits(bytes_per_second / 1e6));
  return fmt::format("{} GB/s", ThreeDigits(bytes_per_second / 1e9));
}

std::string FormatCount(uint64_t count) {
  const std::string digits = std::to_string(count);
  std::string text;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return text;
}

std::string FormatPercent(double fraction) {
  const double percent = fraction * 100;
  if (percent > 0 && percent < 0.05) return "<0.1 %";
  return percent < 9.95 ? fmt::format("{:.1f} %", percent) : fmt::format("{:.0f} %", percent);
}

}  // namespace uvmtrace::analyzer
