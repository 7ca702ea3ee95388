// Why it did not fit: what was asked for, what was there, and who held the rest at that moment.
#include <fmt/format.h>

#include "analyzer/explain/evidence.h"
#include "analyzer/present/text_writer.h"
#include "analyzer/units.h"

namespace uvmtrace::analyzer {
namespace {

using Align = Table::Align;

void WriteOne(TextWriter* writer, const OutOfMemoryRow& row) {
  std::string where = Printable(row.site().empty() ? "" : " at " + PlaceOf(row.site()));
  std::string text = fmt::format("{}{} failed", Printable(row.function()), where);
  if (row.has_result()) text += fmt::format(" with error {}", row.result());
  if (row.count() > 1) text += fmt::format(", {} times, first", FormatCount(row.count()));
  if (row.has_time_ns()) text += fmt::format(" {} after the start", FormatDuration(row.time_ns()));
  if (row.has_pid()) text += fmt::format(", in pid {}", row.pid());
  if (row.has_asked_bytes() && row.asked_bytes() > 0)
    text += fmt::format(": it asked for {}", FormatBytes(row.asked_bytes()));
  if (!row.cause().empty()) text += ". " + Printable(row.cause());
  if (text.back() != '.') text += '.';
  writer->Paragraph(text, "  ! ", "    ");
  TextWriter::Facts facts;
  const auto fact = [&facts](bool known, uint64_t bytes, const std::string& words) {
    if (known) facts.emplace_back(FormatBytes(bytes), words);
  };
  fact(row.has_free_bytes(), row.free_bytes(),
       row.has_total_bytes() ? fmt::format("were free on the GPU, of {}", FormatBytes(row.total_bytes()))
                             : "were free on the GPU");
  fact(row.reserved_unused_bytes() > 0, row.reserved_unused_bytes(), "were reserved by pools and not in use");
  fact(row.others_bytes() > 0, row.others_bytes(),
       "were used by what is in no row: contexts, modules, libraries and other processes");
  fact(row.has_host_available_bytes(), row.host_available_bytes(), "of host memory were available");
  fact(row.has_host_limit_bytes(), row.host_limit_bytes(), "is the limit of host memory for this process (cgroup)");
  fact(row.has_locked_limit_bytes(), row.locked_limit_bytes(), "is the limit of locked memory (ulimit -l)");
  writer->AddFacts(facts, Align::kRight);
  if (row.holders_size() == 0) return;
  Table table({{"held"}, {"allocations"}, {"kind", Align::kLeft}, {"library", Align::kLeft}, {"by", Align::kLeft}});
  size_t shown = 0;
  for (const HolderRow& holder : row.holders()) {
    if (!writer->Within(shown++)) continue;
    table.AddRow({FormatBytes(holder.bytes()), holder.allocations() > 0 ? FormatCount(holder.allocations()) : "",
                  holder.kind(), Printable(holder.library().substr(holder.library().rfind('/') + 1)),
                  Printable(PlaceOf(holder.site()))});
  }
  writer->Add(table);
}

}  // namespace

void WriteOutOfMemory(TextWriter* writer) {
  const Report& report = writer->report();
  if (report.out_of_memory_size() == 0) return;
  writer->Heading("WHY IT DID NOT FIT");
  size_t shown = 0;
  for (const OutOfMemoryRow& row : report.out_of_memory()) {
    if (!writer->Within(shown++)) continue;
    WriteOne(writer, row);
  }
}

}  // namespace uvmtrace::analyzer
