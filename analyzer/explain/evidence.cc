#include "analyzer/explain/evidence.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "analyzer/short_name.h"
#include "analyzer/units.h"

namespace uvmtrace::analyzer {
namespace {

constexpr double kUsableShareOfLink = 0.85;         // of a PCIe link's capacity, that bulk copies reach
constexpr uint64_t kBulkBytes = uint64_t{1} << 20;  // fewer bytes make no speed that others can be held against

uint64_t KernelNs(const Report& report) {
  if (report.totals().has_kernel_busy_ns()) return report.totals().kernel_busy_ns();
  uint64_t total_ns = 0;
  for (const KernelRow& row : report.kernels()) total_ns += row.total_ns();
  return total_ns;
}

bool Matches(const std::string& wanted, const std::string& value) { return wanted.empty() || wanted == value; }

// Where "(file:line)" begins in a site; npos if it has none.
size_t LineBegin(const std::string& site) {
  if (site.empty() || site.back() != ')') return std::string::npos;
  const size_t open = site.rfind(" (");
  if (open == std::string::npos) return std::string::npos;
  const size_t colon = site.rfind(':');
  if (colon == std::string::npos || colon < open || colon + 2 > site.size() - 1) return std::string::npos;
  const bool digits = std::all_of(site.begin() + static_cast<std::ptrdiff_t>(colon) + 1, site.end() - 1,
                                  [](unsigned char c) { return std::isdigit(c) != 0; });
  return digits ? open + 2 : std::string::npos;
}

}  // namespace

bool Evidence::kernels_known() const { return KernelNs(report_) > 0; }

uint64_t Evidence::gpu_time_ns() const {
  if (!kernels_known()) return run_ns();
  return std::max(KernelNs(report_), report_.totals().fault_service_ns());
}

std::string Evidence::gpu_time_words() const {
  return FormatDuration(gpu_time_ns()) + (kernels_known() ? " in kernels" : " of the run");
}

std::vector<std::reference_wrapper<const SiteRow>> Evidence::lines() const {
  std::vector<std::reference_wrapper<const SiteRow>> lines;
  for (const SiteRow& row : report_.sites()) {
    if (row.key() != "unattributed" && row.key() != "others") lines.emplace_back(row);
  }
  return lines;
}

const SiteRow* Evidence::Site(const std::string& key) const {
  for (const SiteRow& row : report_.sites()) {
    if (row.key() == key) return &row;
  }
  return nullptr;
}

const MemoryRow* Evidence::Memory(const std::string& kind) const {
  for (const MemoryRow& row : report_.memory()) {
    if (row.kind() == kind) return &row;
  }
  return nullptr;
}

std::vector<const CallSiteRow*> Evidence::CallsOn(const std::string& key, const std::string& operation) const {
  std::vector<const CallSiteRow*> rows;
  for (const CallSiteRow& row : report_.call_sites()) {
    const bool concerned = row.target() == key || (row.has_other_end() && row.other_end() == key);
    if (concerned && row.operation() == operation) rows.push_back(&row);
  }
  return rows;
}

const CpuFaultTargetRow* Evidence::CpuToucher(const std::string& key) const {
  const CpuFaultTargetRow* most = nullptr;
  for (const CpuFaultTargetRow& row : report_.cpu_fault_targets()) {
    if (row.target() != key || row.site().empty()) continue;
    if (most == nullptr || row.faults() > most->faults()) most = &row;
  }
  return most;
}

std::string Evidence::KernelOn(const SiteRow& site) const {
  return site.kernels_size() == 0 ? std::string() : ShortName(site.kernels(0));
}

uint64_t Evidence::MigratedBytes(const std::string& direction, const std::string& cause) const {
  uint64_t bytes = 0;
  for (const MigrationRow& row : report_.migrations()) {
    if (Matches(direction, row.direction()) && Matches(cause, row.cause())) bytes += row.bytes();
  }
  return bytes;
}

uint64_t Evidence::MigrationBusyNs(const std::string& direction, const std::string& cause) const {
  uint64_t busy_ns = 0;
  for (const MigrationRow& row : report_.migrations()) {
    if (Matches(direction, row.direction()) && Matches(cause, row.cause())) busy_ns += row.busy_ns();
  }
  return busy_ns;
}

uint64_t Evidence::TrafficBytes(const std::string& way, const std::string& direction) const {
  uint64_t bytes = 0;
  for (const TrafficRow& row : report_.traffic()) {
    if (row.way() == way && Matches(direction, row.direction())) bytes += row.bytes();
  }
  return bytes;
}

uint64_t Evidence::TrafficBusyNs(const std::string& way, const std::string& direction) const {
  uint64_t busy_ns = 0;
  for (const TrafficRow& row : report_.traffic()) {
    if (row.way() == way && Matches(direction, row.direction())) busy_ns += row.busy_ns();
  }
  return busy_ns;
}

std::optional<double> Evidence::LinkCapacity() const {
  double most = 0;
  for (const LinkRow& row : report_.links()) most = std::max(most, row.capacity_bytes_per_second());
  if (most <= 0) return std::nullopt;
  return most;
}

std::optional<MeasuredRate> Evidence::BulkRate() const {
  MeasuredRate best;
  for (const MigrationRow& row : report_.migrations()) {
    if (row.cause() != "user" || row.bytes() < kBulkBytes || row.bytes_per_second() <= best.bytes_per_second) continue;
    best = {row.bytes_per_second(), "by the prefetch calls of this run"};
  }
  if (best.bytes_per_second > 0) return best;
  for (const TrafficRow& row : report_.traffic()) {
    if (row.way() != "pinned_copy" || row.bytes() < kBulkBytes || row.bytes_per_second() <= best.bytes_per_second)
      continue;
    best = {row.bytes_per_second(), "by the pinned copies of this run"};
  }
  if (best.bytes_per_second > 0) return best;
  if (const auto capacity = LinkCapacity()) {
    return MeasuredRate{*capacity * kUsableShareOfLink, "at 85 % of the link's capacity"};
  }
  return std::nullopt;
}

std::string Evidence::Faults(const SiteRow& site) const {
  if (site.gpu_fault_entries() > 0) return FormatCount(site.gpu_fault_entries()) + " fault entries";
  return FormatCount(site.gpu_fault_groups()) + (site.gpu_fault_groups() == 1 ? " fault group" : " fault groups");
}

std::string Evidence::DeviceName(const std::string& uuid) const {
  for (const DeviceRow& device : report_.devices()) {
    if (!uuid.empty() && device.uuid() == uuid) return fmt::format("GPU {}", device.ordinal());
  }
  return uuid;
}

uint64_t FaultCount(const SiteRow& site) {
  return site.gpu_fault_entries() > 0 ? site.gpu_fault_entries() : site.gpu_fault_groups();
}

double Share(uint64_t part, uint64_t whole) {
  return whole == 0 ? 0.0 : static_cast<double>(part) / static_cast<double>(whole);
}

std::string Join(const std::vector<std::string>& parts) {
  std::string text;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (i > 0) text += i + 1 == parts.size() ? " and " : ", ";
    text += parts[i];
  }
  return text;
}

std::string Capitalized(std::string sentence) {
  if (!sentence.empty()) sentence[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(sentence[0])));
  return sentence;
}

std::string Times(uint64_t count) { return count == 1 ? "once" : FormatCount(count) + " times"; }

std::string LineOf(const std::string& site) {
  const size_t begin = LineBegin(site);
  if (begin == std::string::npos) return ShortName(site);
  std::string line = site.substr(begin, site.size() - 1 - begin);
  return line.substr(line.rfind('/') + 1);
}

std::string PlaceOf(const std::string& site) {
  const size_t begin = LineBegin(site);
  if (begin == std::string::npos) return ShortName(site);
  const std::string function = ShortName(site.substr(0, begin - 2));
  return function.empty() ? LineOf(site) : LineOf(site) + " in " + function;
}

std::string PlaceOf(const SiteRow& site) {
  if (!site.name().empty()) {
    return site.site().empty() || site.site() == "variable " + site.name()
               ? "variable " + site.name()
               : fmt::format("variable {}, {}", site.name(), PlaceOf(site.site()));
  }
  if (site.site().empty()) return site.key() == "unattributed" ? "memory of no known allocation" : "no stack recorded";
  return PlaceOf(site.site());
}

std::string PlaceOf(const CallSiteRow& call) {
  if (!call.site().empty()) return PlaceOf(call.site());
  return call.function() + (call.target_site().empty() ? "" : " on memory of " + LineOf(call.target_site()));
}

std::string LineOf(const SiteRow& site) {
  if (!site.name().empty()) return "variable " + site.name();
  if (site.site().empty()) return PlaceOf(site);
  return LineOf(site.site());
}

}  // namespace uvmtrace::analyzer
