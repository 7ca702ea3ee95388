// kv_remap: a working set larger than its room on the GPU, and four ways to let blocks come and go while decoding.
//
// Two designs meet in a discussion on Hacker News about virtual memory for KV caches. noxa: an offset table that
// kernels read; copies and table updates are enqueued and nothing waits on the host. ivanium: mapping calls are slow on
// the host but stall the GPU little, so a background thread hides them. Neither gave numbers. Here both serve the same
// schedule, beside mapping inline and beside unified memory with prefetch.
//
//   schedule     which blocks each step needs       table_design   offset table, enqueued only
//   use_kernel   a step's work, and its check       vmm_design     map and unmap, inline or in the background
//   design       the interface of all designs       uvm_design     prefetch to and from the GPU
#include <CLI/CLI.hpp>
#include <cstdio>

#include "examples/common/host_clock.h"
#include "examples/common/host_memory.h"
#include "examples/common/options.h"
#include "examples/common/program.h"
#include "examples/common/rows.h"
#include "examples/kv_remap/design.h"

namespace remap {

const std::vector<DesignInfo>& Designs() {
  static const std::vector<DesignInfo> designs = {
      {"table", false, false, [] { return MakeTableDesign(/*ahead=*/false, /*defragment=*/false); }},
      {"table-ahead", false, false, [] { return MakeTableDesign(true, false); }},
      {"table-defrag", false, false, [] { return MakeTableDesign(false, true); }},
      {"vmm-inline", false, true, [] { return MakeVmmDesign(/*background=*/false); }},
      {"vmm-background", false, true, [] { return MakeVmmDesign(true); }},
      {"uvm-prefetch", true, false, [] { return MakeUvmDesign(); }},
  };
  return designs;
}

PinnedBlocks::PinnedBlocks(const Shape& shape) : block_bytes_(shape.block_bytes) {
  void* address = nullptr;
  examples::Check(cudaHostAlloc(&address, shape.blocks * shape.block_bytes, cudaHostAllocDefault),
                  "cudaHostAlloc of the cold store");
  memory_.reset(address);
  for (uint32_t number = 0; number < shape.blocks; ++number) FillBlock(block(number), number, shape.block_bytes);
}

void FillBlock(void* memory, uint32_t block, uint64_t block_bytes) {
  auto* const words = static_cast<uint64_t*>(memory);
  for (uint64_t i = 0; i < block_bytes / sizeof(uint64_t); ++i) words[i] = WordOf(block, 0, i);
}

}  // namespace remap

namespace {

using examples::Check;
using examples::Row;

void CheckBlocks(const char* name, const remap::Shape& shape, const std::vector<remap::Step>& schedule,
                 remap::Design* design, unsigned long long wrong_words) {
  if (wrong_words != 0) {
    throw examples::WrongData(std::string(name) + ": kernels found " + std::to_string(wrong_words) + " wrong words");
  }
  std::vector<uint32_t> uses(shape.blocks);
  for (const remap::Step& step : schedule) {
    for (const uint32_t block : step.needed) ++uses[block];
  }
  design->Finish();
  for (uint32_t block = 0; block < shape.blocks; ++block) {
    const uint64_t* const words = design->HostCopy(block);
    for (uint64_t i = 0; i < shape.block_bytes / sizeof(uint64_t); ++i) {
      if (words[i] == remap::WordOf(block, uses[block], i)) continue;
      throw examples::WrongData(std::string(name) + ": the host finds word " + std::to_string(i) + " of block " +
                                std::to_string(block) + " not to be of its version " + std::to_string(uses[block]));
    }
  }
}

Row RunDesign(const remap::DesignInfo& info, const remap::Shape& shape, const std::vector<remap::Step>& schedule,
              uint32_t kernel_us) {
  const examples::Stream stream;
  remap::Loop loop;
  loop.stream = stream.get();
  std::vector<examples::Event> starts;
  for (uint32_t i = 0; i < shape.steps; ++i) {
    starts.emplace_back(/*timed=*/true);
    loop.ends.emplace_back(/*timed=*/true);
  }
  remap::Consumer consumer(shape, schedule, kernel_us);
  const auto design = info.make();
  {
    const examples::PhaseRange range(std::string(info.name) + ": preparation");
    design->Prepare(shape, schedule, &loop);
  }

  std::vector<double> host_seconds;
  {
    const examples::PhaseRange range(std::string(info.name) + ": decoding");
    for (uint32_t i = 0; i < shape.steps; ++i) {
      const double start = examples::HostSeconds();
      const remap::Mapping mapping = design->BeforeStep(i);
      Check(cudaEventRecord(starts[i].get(), stream.get()), "cudaEventRecord");
      consumer.Enqueue(i, mapping, stream.get());
      Check(cudaEventRecord(loop.ends[i].get(), stream.get()), "cudaEventRecord");
      design->AfterStep(i);
      host_seconds.push_back(examples::HostSeconds() - start);
    }
  }
  const unsigned long long wrong = consumer.WrongWords();

  std::vector<double> step_us;
  std::vector<double> gap_us;
  std::vector<double> kernel_times_us;
  const uint32_t warm_up = shape.steps / 10 + 1;  // while slots fill and nothing is evicted
  for (uint32_t i = warm_up; i < shape.steps; ++i) {
    step_us.push_back(examples::SecondsBetween(loop.ends[i - 1], loop.ends[i]) * 1e6);
    gap_us.push_back(examples::SecondsBetween(loop.ends[i - 1], starts[i]) * 1e6);
    kernel_times_us.push_back(examples::SecondsBetween(starts[i], loop.ends[i]) * 1e6);
  }
  {
    const examples::PhaseRange range(std::string(info.name) + ": reading it all on the host");
    CheckBlocks(info.name, shape, schedule, design.get(), wrong);
  }
  uint64_t swaps = 0;
  for (const remap::Step& step : schedule) swaps += step.swaps.size();
  const remap::Ledger& ledger = design->ledger();
  Row row;
  row.Set("design", std::string(info.name)).Set("managed", info.managed).Set("reuse", shape.reuse);
  row.Set("block_bytes", shape.block_bytes).Set("swaps", swaps);
  row.Set("step p50 [us]", examples::Percentile(step_us, 50)).Set("step p99 [us]", examples::Percentile(step_us, 99));
  row.Set("step max [us]", examples::Percentile(step_us, 100)).Set("gap p50 [us]", examples::Percentile(gap_us, 50));
  row.Set("gap p99 [us]", examples::Percentile(gap_us, 99));
  row.Set("kernel p50 [us]", examples::Percentile(kernel_times_us, 50));
  row.Set("host p50 [us]", examples::Percentile(host_seconds, 50) * 1e6);
  row.Set("host p99 [us]", examples::Percentile(host_seconds, 99) * 1e6);
  row.Set("us per call", ledger.calls == 0 ? 0.0 : ledger.call_seconds * 1e6 / static_cast<double>(ledger.calls));
  row.Set("calls", ledger.calls).Set("host waits", ledger.host_waits);
  row.Set("host_to_device_bytes", ledger.host_to_device_bytes);
  row.Set("device_to_host_bytes", ledger.device_to_host_bytes);
  return row.Set("moved_on_device_bytes", ledger.moved_on_device_bytes);
}

int Main(int argc, char** argv) {
  CLI::App app("Blocks come and go under a decode loop: offset table, virtual memory calls, unified memory.");
  examples::CommonOptions options;
  remap::Shape shape;
  uint32_t kernel_us = 200;
  std::vector<std::string> names;
  std::vector<std::string> known;
  for (const auto& info : remap::Designs()) known.emplace_back(info.name);
  examples::AddCommonOptions(&app, &options, "Room for blocks on the GPU; with it, --slots is what fits");
  examples::AddChoiceOption(&app, "--design", &names, known, "Ways to remap");
  examples::AddSizeOption(&app, "--block-bytes", &shape.block_bytes, "Size of a block, a multiple of 64 KiB");
  app.add_option("--blocks", shape.blocks, "Blocks that exist")->check(CLI::Range(1, 1 << 16))->capture_default_str();
  app.add_option("--slots", shape.slots, "Blocks that have room")->check(CLI::Range(1, 1 << 16))->capture_default_str();
  app.add_option("--window", shape.window, "Blocks that a step uses")
      ->check(CLI::Range(1, 1 << 12))
      ->capture_default_str();
  app.add_option("--steps", shape.steps, "Steps of the loop")->check(CLI::Range(4, 100000))->capture_default_str();
  app.add_option("--reuse", shape.reuse, "cyclic: the window moves on; zipf: popular blocks come again")
      ->check(CLI::IsMember({"cyclic", "zipf"}))
      ->capture_default_str();
  app.add_option("--fresh", shape.fresh, "Blocks by which the cyclic window moves on")
      ->check(CLI::Range(0, 1 << 12))
      ->capture_default_str();
  app.add_option("--kernel-us", kernel_us, "Least time of a step's kernel")->capture_default_str();
  const auto parsed = examples::Parse(&app, argc, argv);
  if (parsed != examples::ParseResult::kRun) {
    return parsed == examples::ParseResult::kStopOk ? examples::kExitOk : examples::kExitRefused;
  }

  const examples::Machine machine = examples::ReadMachine();
  FILE* const out = options.json_path == "-" ? stderr : stdout;
  std::fprintf(out, "%s\n", examples::SetupLine(machine).c_str());
  shape.seed = options.seed;
  constexpr uint64_t kPage = 64 << 10;
  if (shape.block_bytes == 0 || shape.block_bytes % kPage != 0) {
    throw examples::Refused("--block-bytes must be a multiple of 64 KiB");
  }
  if (options.capacity_bytes != 0) shape.slots = static_cast<uint32_t>(options.capacity_bytes / shape.block_bytes);
  const uint64_t bytes = shape.blocks * shape.block_bytes;
  examples::RefuseOversubscription(bytes, machine.free_bytes, machine.simulated, options);
  examples::RequireDemandPaging();
  examples::RequireHostMemory(bytes * (machine.simulated ? 3 : 1), "the blocks' cold store");
  const std::vector<remap::Step> schedule = remap::MakeSchedule(shape);
  std::fprintf(out, "load: %u blocks of %s, room for %u, %u steps of %u blocks, %s reuse, kernels of %u us\n",
               shape.blocks, examples::FormatBytes(shape.block_bytes).c_str(), shape.slots, shape.steps, shape.window,
               shape.reuse.c_str(), kernel_us);

  constexpr uint64_t kGranularity = 2ull << 20;
  std::vector<Row> rows;
  for (int repetition = 0; repetition < options.repeat; ++repetition) {
    for (const auto& info : remap::Designs()) {
      if (std::find(names.begin(), names.end(), info.name) == names.end()) continue;
      Row row;
      if (info.needs_pages && shape.block_bytes % kGranularity != 0) {
        row.Set("design", std::string(info.name)).Set("reuse", shape.reuse).Set("block_bytes", shape.block_bytes);
        row.Set("skipped", std::string("physical memory is mapped in multiples of 2 MiB"));
      } else {
        row = RunDesign(info, shape, schedule, kernel_us);
      }
      rows.push_back(row.Set("repetition", static_cast<uint64_t>(repetition)));
    }
  }
  examples::PrintTable(
      out, examples::Summarise(rows, {"design"}),
      {"design", "step p50 [us]", "step p50 [us]_low", "step p50 [us]_high", "step p99 [us]", "step max [us]",
       "gap p50 [us]", "gap p99 [us]", "kernel p50 [us]", "host p50 [us]", "host p99 [us]", "us per call", "calls",
       "host waits", "host_to_device_bytes", "device_to_host_bytes", "moved_on_device_bytes", "skipped"});
  std::fprintf(out, "\ndata: ok (block and version of every word, in every step and at the end)\n");
  examples::WriteJson(options.json_path, "kv_remap", machine, rows);
  return examples::kExitOk;
}

}  // namespace

int main(int argc, char** argv) { return examples::RunProgram("kv_remap", &Main, argc, argv); }
