#include "analyzer/model/annotation_ranges.h"

#include <algorithm>
#include <map>
#include <utility>

#include "proto/schema.h"

namespace uvmtrace::analyzer {

void AnnotationRanges::Add(const ColumnBatch& batch) {
  for (size_t row = 0; row < batch.rows; ++row) {
    const auto kind = static_cast<AnnotationKind>(batch[annotations::kKind][row] & 0xff);
    if (kind == AnnotationKind::kUnknown || kind >= AnnotationKind::kMark) continue;
    if (rows_.size() >= kMaximumRows) {
      ++refused_;
      continue;
    }
    rows_.push_back({batch[annotations::kTime][row], batch[annotations::kRange][row],
                     static_cast<uint32_t>(batch[annotations::kTid][row]),
                     static_cast<uint32_t>(batch[annotations::kName][row]),
                     static_cast<uint32_t>(batch[annotations::kDomain][row]), static_cast<uint8_t>(kind)});
  }
}

std::vector<NamedRange> AnnotationRanges::Pair(uint64_t last_ns) {
  // Rows of one thread are in their order; threads' rows stand one after the other.
  std::stable_sort(rows_.begin(), rows_.end(), [](const Row& a, const Row& b) { return a.time_ns < b.time_ns; });
  std::map<std::pair<uint32_t, uint32_t>, std::vector<NamedRange>> pushed;  // by thread and domain
  std::map<uint64_t, NamedRange> started;
  std::vector<NamedRange> ranges;
  const auto end = [&ranges](NamedRange range, uint64_t end_ns) {
    range.end_ns = end_ns;
    if (range.end_ns > range.start_ns) ranges.push_back(range);
  };
  for (const Row& row : rows_) {
    switch (static_cast<AnnotationKind>(row.kind)) {
      case AnnotationKind::kPush:
        pushed[{row.tid, row.domain}].push_back({row.name, row.domain, row.time_ns, 0});
        break;
      case AnnotationKind::kPop: {
        std::vector<NamedRange>& stack = pushed[{row.tid, row.domain}];
        if (stack.empty()) break;  // pushed before recording began
        end(stack.back(), row.time_ns);
        stack.pop_back();
        break;
      }
      case AnnotationKind::kStart:
        started[row.range] = {row.name, row.domain, row.time_ns, 0};
        break;
      case AnnotationKind::kEnd: {
        const auto range = started.find(row.range);
        if (range == started.end()) break;
        end(range->second, row.time_ns);
        started.erase(range);
        break;
      }
      default:
        break;
    }
  }
  for (const auto& [thread, stack] : pushed) {
    for (const NamedRange& range : stack) end(range, last_ns);
  }
  for (const auto& [number, range] : started) end(range, last_ns);
  rows_.clear();
  rows_.shrink_to_fit();
  return ranges;
}

}  // namespace uvmtrace::analyzer
