// paged_attention: what a block table costs, and what unified memory costs, in the attention of a language model.
//
// The experiment is that of a log of March 2024, "Profile VLLM Performance": vLLM's paged attention with the KV cache
// in normal and in managed memory, with the block table, without it, and without any offset. Its tables mix three
// causes: the table look-up, the scatter of the blocks, and how much memory is touched. Here each is a mode of its own
// (experiment.cc), the kernel is tuned (attention_kernel.cu), and every variant is checked against a reference.
//
//   attention         shapes and addresses             experiment   variants, timing, checks
//   attention_kernel  the kernels, for GPU and host    reference    the answer in double precision
#include <CLI/CLI.hpp>
#include <cstdio>

#include "examples/common/host_memory.h"
#include "examples/common/program.h"
#include "examples/paged_attention/attention.h"
#include "examples/paged_attention/experiment.h"

namespace {

using examples::Row;

int Main(int argc, char** argv) {
  CLI::App app("Decode attention over a paged KV cache in device, managed and page-locked memory.");
  examples::CommonOptions options;
  paged::Shape shape;
  std::vector<std::string> memories;
  std::vector<std::string> modes;
  std::vector<int> blocks = {16};
  examples::AddCommonOptions(&app, &options, "Device memory that a KV cache may take (default: what is free)");
  examples::AddChoiceOption(&app, "--memory", &memories, paged::MemoryNames(), "Where the KV cache lies");
  examples::AddChoiceOption(&app, "--mode", &modes, paged::ModeNames(), "How a block is found");
  app.add_option("--block", blocks, "Tokens of a block, a list")
      ->delimiter(',')
      ->check(CLI::IsMember({1, 2, 4, 8, 16, 32, 64, 128}))
      ->capture_default_str();
  app.add_option("--batch", shape.batch, "Sequences")->check(CLI::Range(1, 4096))->capture_default_str();
  app.add_option("--seq", shape.tokens, "Tokens of each sequence, a multiple of 128")->capture_default_str();
  app.add_option("--kv-heads", shape.kv_heads, "KV heads, each with 8 query heads")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  app.add_option("--iterations", shape.iterations, "Launches of each measurement (default: 20, on the simulator 1)")
      ->check(CLI::Range(1, 100000));
  const auto parsed = examples::Parse(&app, argc, argv);
  if (parsed != examples::ParseResult::kRun) {
    return parsed == examples::ParseResult::kStopOk ? examples::kExitOk : examples::kExitRefused;
  }
  if (shape.tokens < paged::kTileTokens || shape.tokens % paged::kTileTokens != 0 || shape.tokens > 1 << 20) {
    throw examples::Refused("--seq must be a multiple of " + std::to_string(paged::kTileTokens) +
                            ", a thread block's share, and at most 1048576");
  }

  const examples::Machine machine = examples::ReadMachine();
  FILE* const out = options.json_path == "-" ? stderr : stdout;
  std::fprintf(out, "%s\n", examples::SetupLine(machine).c_str());
  examples::RequireDemandPaging();
  if (app.count("--iterations") == 0 && machine.simulated) shape.iterations = 1;
  if (machine.simulated) shape.warmups = 0;
  int l2_bytes = 0;
  examples::Check(cudaDeviceGetAttribute(&l2_bytes, cudaDevAttrL2CacheSize, 0), "cudaDevAttrL2CacheSize");
  paged::PrepareKernels();
  const double bandwidth = paged::MeasureBandwidth(machine.simulated);
  std::fprintf(out,
               "device memory: %.0f GB/s read in this run | L2 cache: %s | batch %d, %d tokens each, %d KV heads\n",
               bandwidth / 1e9, examples::FormatBytes(l2_bytes).c_str(), shape.batch, shape.tokens, shape.kv_heads);

  std::vector<Row> rows;
  for (int repetition = 0; repetition < options.repeat; ++repetition) {
    for (const std::string& memory : memories) {
      for (const std::string& mode : modes) {
        for (const int block : blocks) {
          Row row = paged::RunVariant({memory, mode, block}, shape, options, machine, bandwidth);
          const auto* working_set = row.Find("working set bytes");
          if (working_set != nullptr) {
            row.Set("fits L2", std::get<uint64_t>(*working_set) <= static_cast<uint64_t>(l2_bytes));
          }
          rows.push_back(row.Set("repetition", static_cast<uint64_t>(repetition)));
        }
      }
    }
  }
  examples::PrintTable(out, examples::Summarise(rows, {"memory", "mode", "block"}),
                       {"memory", "mode", "block", "us", "GB/s", "of device bandwidth", "read bytes",
                        "working set bytes", "fits L2", "load bytes", "relative error", "skipped"});
  std::fprintf(out, "\ndata: ok (within 1e-3 of the reference, relative to a head's largest element)\n");
  examples::WriteJson(options.json_path, "paged_attention", machine, rows);
  return examples::kExitOk;
}

}  // namespace

int main(int argc, char** argv) { return examples::RunProgram("paged_attention", &Main, argc, argv); }
