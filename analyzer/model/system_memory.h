// Memory that CUDA did not allocate and that GPUs reach all the same (HMM, ATS): heap, stacks, files, anonymous
// mappings.
//
// No call tells when such memory came and went. The recorder looks at the process's mappings a while after an event hit
// one, and defines it. So the first definition of a place holds for what happened there before it was seen, too; a
// mapping that grew is one area; and where another one took the place, that one holds from about a look earlier on.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "analyzer/model/allocation_table.h"
#include "analyzer/read/chunk.h"
#include "analyzer/read/read_budget.h"

namespace uvmtrace::analyzer {

class SystemMemory {
 public:
  // Areas of one name are one site. Their numbers stand among those of the stacks, which a trace's own do not reach.
  static constexpr uint32_t kStacks = 0xc0000000;

  void Define(const MemoryAreaDefinition& definition, ReadBudget* budget);
  // After the last definition: each area becomes an allocation that no call made.
  void AddTo(AllocationTable* table) const;
  // "system memory, [heap]"; null: the stack is of something else.
  const std::string* NameOfStack(uint32_t stack) const;

 private:
  // The recorder looks no more often than this.
  static constexpr uint64_t kLookNs = 250'000'000;

  struct Area {
    uint64_t start = 0;
    uint64_t end = 0;
    uint64_t from_ns = 0;
    uint64_t until_ns = AllocationVersion::kNever;
    uint64_t seen_ns = 0;
    uint32_t name = 0;
  };

  std::vector<Area> areas_;
  std::map<uint64_t, size_t> current_;  // by start: what no later definition replaced
  std::vector<std::string> names_;
  std::map<std::string, uint32_t> known_names_;
};

}  // namespace uvmtrace::analyzer
