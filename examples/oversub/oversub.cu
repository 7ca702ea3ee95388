// oversub: m chunks of data take turns on a GPU that has room for k of them.
//
// The experiment: the first k chunks fill the GPU (prefill); each further chunk of the first cycle evicts one; in every
// later cycle each chunk finds itself evicted and evicts another. The same traversal runs in several modes: swapping by
// hand with pageable or page-locked copies, unified memory by page faults, unified memory by prefetch.
//
//   arguments   what was asked for                 visit_kernel  the work on a chunk, and its check
//   plan        sizes and refusals                 experiment    phases, timers, verification
//   mode        one way to move chunks             table         Markdown and JSON
#include <cstdio>

#include "examples/common/machine.h"
#include "examples/common/program.h"
#include "examples/oversub/arguments.h"
#include "examples/oversub/experiment.h"
#include "examples/oversub/plan.h"
#include "examples/oversub/table.h"
#include "examples/oversub/visit_kernel.h"

namespace {

void WriteJson(const std::string& path, const std::string& json) {
  FILE* const out = path == "-" ? stdout : std::fopen(path.c_str(), "w");
  if (out == nullptr) throw std::runtime_error("cannot write " + path);
  const bool written = std::fputs(json.c_str(), out) >= 0 && std::fflush(out) == 0;
  if (out != stdout) std::fclose(out);
  if (!written) throw std::runtime_error("writing " + path + " failed: is the disk full?");
}

int Main(int argc, char** argv) {
  oversub::Arguments arguments;
  switch (oversub::ParseArguments(argc, argv, &arguments)) {
    case oversub::ParseResult::kStopOk:
      return examples::kExitOk;
    case oversub::ParseResult::kStopUsage:
      return examples::kExitRefused;
    case oversub::ParseResult::kRun:
      break;
  }

  examples::Machine machine = examples::ReadMachine();
  oversub::Visitor visitor;
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  examples::Check(cudaMemGetInfo(&free_bytes, &total_bytes), "cudaMemGetInfo");
  machine.free_bytes = free_bytes;  // what is left once the experiment's own kernel and counter are there

  FILE* const out = arguments.json_path == "-" ? stderr : stdout;
  std::fprintf(out, "%s\n", examples::SetupLine(machine).c_str());
  const oversub::Plan plan = oversub::MakePlan(arguments, machine);
  oversub::PrintPlan(out, plan);

  std::vector<oversub::Result> results;
  for (const std::string& mode : arguments.modes) {
    results.push_back(oversub::RunExperiment(mode, plan, &visitor));
    oversub::PrintResult(out, plan, results.back());
    std::fflush(out);
  }
  if (!arguments.json_path.empty()) WriteJson(arguments.json_path, oversub::ToJson(machine, plan, results));
  return examples::kExitOk;
}

}  // namespace

int main(int argc, char** argv) { return examples::RunProgram("oversub", &Main, argc, argv); }
