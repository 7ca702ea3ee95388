// What was left out or merged because memory, or the allowance of an untrusted file, was used up.
#include <fmt/format.h>

#include <array>

#include "analyzer/findings/sections.h"
#include "analyzer/units.h"

namespace uvmtrace::analyzer {
namespace {

struct LeftOut {
  Spending spending;
  bool by_memory;
  const char* sentence;
};

constexpr LeftOut kLeftOut[] = {
    {Spending::kAllocations, true, "{} allocation(s) are not told apart: what happened on them is on no known memory."},
    {Spending::kKernels, true,
     "{} run(s) of kernels were left out: what happened in them is on no kernel, and the GPU's busy time lacks them."},
    {Spending::kCells, true,
     "{} time(s) memory that had no sum of its own for the kernels and phases of an event got one without them: these "
     "bytes and faults are on their memory, but on no kernel or phase."},
    {Spending::kBlocks, true, "Of {} byte(s) that moved it is not told whether they came back to a GPU."},
    {Spending::kTouchedBlocks, true, "{} block(s) of 2 MiB are not counted among those that a line's memory touched."},
    {Spending::kRanges, false, "{} range(s) that the program named are in no phase."},
    {Spending::kFunctions, false, "{} call(s) are of functions beyond the first 8,192: they are counted as one."},
    {Spending::kDefinitions, false, "{} definition(s) beyond the first million were not read."},
    {Spending::kWindows, false, "{} window(s) of recorded migrations were not read."},
    {Spending::kChecksumBytes, false, "{} byte(s) after damage were not searched for intact chunks."},
};

}  // namespace

void AddLeftOut(const Run& run, std::vector<std::string>* lines) {
  for (const LeftOut& kind : kLeftOut) {
    uint64_t amount = 0;
    for (const auto& process : run) amount += process->budget.refused(kind.spending);
    if (amount == 0) continue;
    std::string line = fmt::format(fmt::runtime(kind.sentence), FormatCount(amount));
    if (kind.by_memory)
      line += fmt::format(" --max-memory is {}: more keeps them apart.",
                          FormatBytes(run.front()->budget.memory_bytes() * run.size()));
    lines->push_back(line);
  }
}

}  // namespace uvmtrace::analyzer
