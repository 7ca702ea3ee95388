// Ranges that the program named (NVTX): pushes and pops of each thread and domain, starts and ends by their number.
#pragma once

#include <cstdint>
#include <vector>

#include "analyzer/read/columns.h"

namespace uvmtrace::analyzer {

struct NamedRange {
  uint32_t name = 0;    // a string
  uint32_t domain = 0;  // a string; 0: the default domain
  uint64_t start_ns = 0;
  uint64_t end_ns = 0;
};

class AnnotationRanges {
 public:
  static constexpr size_t kMaximumRows = size_t{1} << 21;

  void Add(const ColumnBatch& batch);
  // After the last row, in the order in which they end. A range that nothing ended lasts until `last_ns`.
  std::vector<NamedRange> Pair(uint64_t last_ns);
  uint64_t refused() const { return refused_; }

 private:
  struct Row {
    uint64_t time_ns;
    uint64_t range;
    uint32_t tid;
    uint32_t name;
    uint32_t domain;
    uint8_t kind;
  };
  std::vector<Row> rows_;
  uint64_t refused_ = 0;
};

}  // namespace uvmtrace::analyzer
