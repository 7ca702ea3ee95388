// Memory by the line that allocated it, the tree of call paths, and objects that share a page.
#include "analyzer/present/site_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "analyzer/explain/evidence.h"
#include "analyzer/present/text_writer.h"
#include "analyzer/short_name.h"
#include "analyzer/units.h"

namespace uvmtrace::analyzer {
namespace {

using Align = Table::Align;

std::string Bytes(uint64_t value) { return value > 0 ? FormatBytes(value) : ""; }
std::string Count(uint64_t value) { return value > 0 ? FormatCount(value) : ""; }

bool IsUnattributed(const SiteRow& row) { return row.key() == "unattributed"; }
bool IsSum(const SiteRow& row) { return IsUnattributed(row) || row.key() == "others"; }

class Tree {
 public:
  Tree(TextWriter* writer) : writer_(writer) {
    for (const PathRow& row : writer->report().paths()) children_[row.parent()].push_back(&row);
    for (auto& [parent, rows] : children_) {
      std::stable_sort(rows.begin(), rows.end(), [](const PathRow* a, const PathRow* b) {
        return std::make_tuple(a->gpu_waited_ns(), Moved(*a), a->bytes()) >
               std::make_tuple(b->gpu_waited_ns(), Moved(*b), b->bytes());
      });
    }
  }

  void AddTo(Table* table) { Add(0, 0, table); }

 private:
  static constexpr size_t kDeepest = 64;

  static uint64_t Moved(const PathRow& row) { return row.host_to_device_bytes() + row.device_to_host_bytes(); }

  void Add(uint32_t parent, size_t depth, Table* table) {
    const auto found = children_.find(parent);
    if (found == children_.end() || depth == kDeepest) return;
    size_t shown = 0;
    for (const PathRow* row : found->second) {
      if (row->id() == 0) continue;
      if (!writer_->Within(shown++)) break;
      // A chain of single callers stays at one depth: what branches is what matters.
      const bool chain = found->second.size() == 1;
      table->AddRow(
          {Bytes(row->bytes()), Count(row->allocations()), Bytes(row->host_to_device_bytes()),
           Bytes(row->device_to_host_bytes()), row->gpu_waited_ns() > 0 ? FormatDuration(row->gpu_waited_ns()) : "",
           Count(row->gpu_fault_entries()), std::string(depth * 2, ' ') + ShortName(Printable(row->frame()))});
      Add(row->id(), depth + (chain ? 0 : 1), table);
    }
  }

  TextWriter* writer_;
  std::map<uint32_t, std::vector<const PathRow*>> children_;
};

}  // namespace

std::vector<const SiteRow*> SitesByCost(const Report& report) {
  std::vector<const SiteRow*> rows;
  for (const SiteRow& row : report.sites()) rows.push_back(&row);
  // What is no line of the program comes last.
  std::stable_sort(rows.begin(), rows.end(), [](const SiteRow* a, const SiteRow* b) {
    if (IsSum(*a) != IsSum(*b)) return IsSum(*b);
    const auto moved = [](const SiteRow& row) {
      return row.host_to_device_bytes() + row.device_to_host_bytes() + row.device_to_device_bytes();
    };
    return std::make_tuple(a->gpu_waited_ns(), moved(*a), a->peak_bytes()) >
           std::make_tuple(b->gpu_waited_ns(), moved(*b), b->peak_bytes());
  });
  return rows;
}

std::string SiteCell(const SiteRow& row) {
  const std::string place = IsUnattributed(row) ? "(not known whose)" : Printable(PlaceOf(row));
  return row.allocations() > 1 ? fmt::format("{}  x {}", place, FormatCount(row.allocations())) : place;
}

std::string UseCell(const SiteRow& row) {
  std::string kind = row.kind().empty() ? "kind not known" : row.kind() + " memory";
  if (IsUnattributed(row)) kind = "no recorded allocation holds these addresses";
  return row.pattern().empty() ? kind : row.kind() + ", " + Printable(row.pattern());
}

void WriteSites(TextWriter* writer) {
  const Report& report = writer->report();
  if (report.sites_size() == 0) return;
  writer->Heading("MEMORY BY LINE");
  Table table({{"pid"},
               {"peak"},
               {"in all"},
               {"live at end"},
               {"calls"},
               {"freed"},
               {"to GPU"},
               {"to host"},
               {"evicted"},
               {"came back"},
               {"GPU waited"},
               {"GPU faults"},
               {"CPU faults"},
               {"use", Align::kLeft},
               {"allocated in", Align::kLeft}});
  size_t shown = 0;
  for (const SiteRow* row : SitesByCost(report)) {
    if (!IsSum(*row) && !writer->Within(shown++)) continue;
    const bool estimated = row->estimated();
    table.AddRow(
        {row->has_pid() ? std::to_string(row->pid()) : "", Bytes(row->peak_bytes()),
         row->total_bytes() != row->peak_bytes() ? Bytes(row->total_bytes()) : "", Bytes(row->live_bytes()),
         Count(row->allocations()), Count(row->frees()), Estimated(Bytes(row->host_to_device_bytes()), estimated),
         Estimated(Bytes(row->device_to_host_bytes()), estimated), Estimated(Bytes(row->evicted_bytes()), estimated),
         Bytes(row->refaulted_bytes()), row->gpu_waited_ns() > 0 ? FormatDuration(row->gpu_waited_ns()) : "",
         Count(FaultCount(*row)), Count(row->cpu_faults()), UseCell(*row),
         IsUnattributed(*row) ? "(not known)" : Printable(PlaceOf(*row))});
    if (!writer->options().stacks) continue;
    for (const std::string& frame : row->stack()) table.AddNote(Printable(frame));
  }
  writer->Add(table);
  if (writer->options().top > 0 && shown > writer->options().top) {
    writer->Paragraph(fmt::format("... and {} more lines (--top 0 shows all)", shown - writer->options().top));
  }
}

void WriteTree(TextWriter* writer) {
  const Report& report = writer->report();
  writer->Heading("MEMORY BY CALL PATH");
  if (report.paths_size() == 0) {
    writer->Paragraph("none: no stack of an allocation was recorded");
    return;
  }
  Table table({{"memory"},
               {"calls"},
               {"to GPU"},
               {"to host"},
               {"GPU waited"},
               {"GPU faults"},
               {"called by, from the outermost in", Align::kLeft}});
  Tree(writer).AddTo(&table);
  writer->Add(table);
}

void WriteSharedPages(TextWriter* writer) {
  const Report& report = writer->report();
  if (report.shared_pages_size() == 0) return;
  writer->Heading("OBJECTS THAT SHARE A PAGE");
  Table table({{"page"}, {"GPU faults"}, {"CPU faults"}, {"moved"}, {"objects of", Align::kLeft}});
  size_t shown = 0;
  for (const SharedPageRow& row : report.shared_pages()) {
    if (!writer->Within(shown++)) continue;
    std::vector<std::string> places;
    for (const std::string& site : row.sites()) places.push_back(PlaceOf(site));
    table.AddRow({fmt::format("{:#x}", row.address()), Count(row.gpu_fault_entries()), Count(row.cpu_faults()),
                  Bytes(row.bytes()), Printable(Join(places))});
  }
  writer->Add(table);
  writer->Paragraph(
      "Faults are of the same page, whichever object was touched: a row of one object above may hold another's "
      "faults.");
}

}  // namespace uvmtrace::analyzer
