// oversub: m chunks of data take turns on a GPU that has room for k of them.
//
// The experiment is that of a blog post of March 2024, "Profile CUDA UVM Performance": the first k chunks fill the GPU
// (prefill); each further chunk of the first cycle evicts one; in every later cycle each chunk finds itself evicted and
// evicts another. The same traversal runs in several modes: swapping by hand with pageable or page-locked copies,
// unified memory by page faults, by prefetch, and with advice, which the post left as "TODO".
//
//   arguments   what was asked for                 visit_kernel  the work on a chunk, and its check
//   plan        sizes and refusals                 experiment    phases, timers, verification
//   mode        one way to move chunks             table         Markdown and JSON
//   order       which page of a chunk comes next   host_work     the host's loops, at -O0 and -O3
#include <cstdio>

#include "examples/common/affinity.h"
#include "examples/common/machine.h"
#include "examples/common/program.h"
#include "examples/oversub/arguments.h"
#include "examples/oversub/experiment.h"
#include "examples/oversub/plan.h"
#include "examples/oversub/table.h"
#include "examples/oversub/visit_kernel.h"

namespace {

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
  std::fprintf(out, "%s\n", examples::PinToNode(arguments.affinity).c_str());
  const oversub::Plan plan = oversub::MakePlan(arguments, machine);
  oversub::PrintPlan(out, plan);

  // In turn, so that a machine that becomes slower meanwhile does so for all modes.
  std::vector<examples::Row> rows;
  for (int repetition = 0; repetition < arguments.repeat; ++repetition) {
    for (const std::string& mode : arguments.modes) {
      oversub::Result result = oversub::RunExperiment(mode, plan, &visitor);
      result.repetition = repetition;
      if (arguments.repeat == 1) oversub::PrintResult(out, plan, result);
      rows.push_back(oversub::ToRow(plan, result));
      std::fflush(out);
    }
  }
  if (rows.size() > 1) oversub::PrintSummary(out, rows);
  examples::WriteJson(arguments.json_path, "oversub", machine, rows);
  return examples::kExitOk;
}

}  // namespace

int main(int argc, char** argv) { return examples::RunProgram("oversub", &Main, argc, argv); }
