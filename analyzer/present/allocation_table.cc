#include "analyzer/present/allocation_table.h"

#include <algorithm>
#include <string>
#include <vector>

#include "analyzer/present/text_writer.h"
#include "analyzer/short_name.h"
#include "analyzer/units.h"

namespace uvmtrace::analyzer {
namespace {

using Align = Table::Align;

// One allocation, or several of one kind from one call site.
struct Line {
  AllocationRow sum;
  uint64_t count = 1;
};

uint64_t Moved(const AllocationRow& row) {
  return row.host_to_device_bytes() + row.device_to_host_bytes() + row.device_to_device_bytes();
}
uint64_t Faults(const AllocationRow& row) {
  return row.gpu_fault_groups() + row.gpu_fault_entries() + row.cpu_faults();
}

bool IsSum(const AllocationRow& row) { return !row.has_id() || row.id() == 0; }

bool SameOrigin(const AllocationRow& a, const AllocationRow& b) {
  return a.kind() == b.kind() && a.site() == b.site() && a.pid() == b.pid() && !a.site().empty();
}

void Fold(const AllocationRow& row, Line* into) {
  AllocationRow& sum = into->sum;
  ++into->count;
  sum.set_bytes(sum.bytes() + row.bytes());
  sum.set_host_to_device_bytes(sum.host_to_device_bytes() + row.host_to_device_bytes());
  sum.set_device_to_host_bytes(sum.device_to_host_bytes() + row.device_to_host_bytes());
  sum.set_device_to_device_bytes(sum.device_to_device_bytes() + row.device_to_device_bytes());
  sum.set_evicted_bytes(sum.evicted_bytes() + row.evicted_bytes());
  sum.set_refaulted_bytes(sum.refaulted_bytes() + row.refaulted_bytes());
  sum.set_gpu_fault_groups(sum.gpu_fault_groups() + row.gpu_fault_groups());
  sum.set_gpu_fault_entries(sum.gpu_fault_entries() + row.gpu_fault_entries());
  sum.set_cpu_faults(sum.cpu_faults() + row.cpu_faults());
}

std::vector<Line> Lines(const Report& report, const TextOptions& options, AllocationOrder order) {
  std::vector<const AllocationRow*> rows;
  for (const AllocationRow& row : report.allocations()) {
    if (!IsSum(row) && (order == AllocationOrder::kByBytesMoved || Faults(row) > 0)) rows.push_back(&row);
  }
  std::stable_sort(rows.begin(), rows.end(), [order](const AllocationRow* a, const AllocationRow* b) {
    return order == AllocationOrder::kByFaults ? Faults(*a) > Faults(*b) : Moved(*a) > Moved(*b);
  });
  std::vector<Line> lines;
  for (const AllocationRow* row : rows) {
    if (!options.stacks && !lines.empty() && SameOrigin(lines.back().sum, *row)) {
      Fold(*row, &lines.back());
    } else {
      lines.push_back({*row});
    }
  }
  return lines;
}

// Whether the rows by faults are those by bytes over again.
bool Repeats(const std::vector<Line>& by_faults, const Report& report, const TextOptions& options) {
  const std::vector<Line> by_bytes = Lines(report, options, AllocationOrder::kByBytesMoved);
  return by_faults.size() <= by_bytes.size() &&
         std::equal(by_faults.begin(), by_faults.end(), by_bytes.begin(), [](const Line& a, const Line& b) {
           return a.count == b.count &&
                  (a.count == 1 ? a.sum.id() == b.sum.id() && a.sum.pid() == b.sum.pid() : SameOrigin(a.sum, b.sum));
         });
}

std::string Site(const Line& line) {
  const AllocationRow& row = line.sum;
  if (row.has_allocations()) return "(" + FormatCount(row.allocations()) + " other allocations)";
  return row.site().empty() ? "(no stack was recorded)" : ShortName(Printable(row.site()));
}

}  // namespace

std::optional<Table> AllocationTable(const Report& report, const TextOptions& options, AllocationOrder order) {
  std::vector<Line> lines = Lines(report, options, order);
  if (order == AllocationOrder::kByFaults && (lines.empty() || Repeats(lines, report, options))) return std::nullopt;
  if (options.top > 0 && lines.size() > options.top) lines.resize(options.top);
  for (const AllocationRow& row : report.allocations()) {
    if (IsSum(row)) lines.push_back({row});
  }
  Table table({{"id"},
               {"pid"},
               {"count"},
               {"kind", Align::kLeft},
               {"size"},
               {"to GPU"},
               {"to host"},
               {"evicted"},
               {"came back"},
               {"GPU entries"},
               {"GPU groups"},
               {"CPU faults"},
               {"allocated in", Align::kLeft}});
  const auto bytes = [](uint64_t value) { return value > 0 ? FormatBytes(value) : std::string(); };
  const auto number = [](uint64_t value) { return value > 0 ? FormatCount(value) : std::string(); };
  for (const Line& line : lines) {
    const AllocationRow& row = line.sum;
    table.AddRow({row.id() == 0     ? "-"
                  : line.count == 1 ? std::to_string(row.id())
                                    : "",
                  row.has_pid() ? std::to_string(row.pid()) : "", line.count > 1 ? FormatCount(line.count) : "",
                  row.kind(), bytes(row.bytes()), Estimated(bytes(row.host_to_device_bytes()), row.estimated()),
                  Estimated(bytes(row.device_to_host_bytes()), row.estimated()),
                  Estimated(bytes(row.evicted_bytes()), row.estimated()), bytes(row.refaulted_bytes()),
                  number(row.gpu_fault_entries()), number(row.gpu_fault_groups()), number(row.cpu_faults()),
                  Site(line)});
    if (!options.stacks) continue;
    for (const std::string& frame : row.stack()) table.AddNote(Printable(frame));
  }
  return table;
}

}  // namespace uvmtrace::analyzer
