// offload: a forward pass, layer by layer, with weights that live in host memory.
//
// The question is that of vLLM issue #17062, "UVA vs UVM for CPU offloading": vLLM reads page-locked weights in place,
// its author expected unified memory to be better, and a profiler showed him neither faults nor copies. Here are the
// ways side by side: read in place, page faults, prefetch of the next layer, advice, explicit double-buffered copies.
//
//   layer_kernel   y = W x, exact            variants   one class for each way to hold the weights
#include <CLI/CLI.hpp>
#include <cinttypes>
#include <cmath>
#include <cstdio>

#include "examples/common/host_memory.h"
#include "examples/common/managed_memory.h"
#include "examples/common/options.h"
#include "examples/common/phase.h"
#include "examples/common/program.h"
#include "examples/common/rows.h"
#include "examples/offload/layer_kernel.h"
#include "examples/offload/variants.h"

namespace {

using examples::Check;
using examples::Row;

// Bytes per second of a page-locked copy to the GPU: what the link can do.
double MeasureLink(uint64_t bytes) {
  const examples::PhaseRange range("bandwidth of the link");
  void* host = nullptr;
  void* device = nullptr;
  Check(cudaHostAlloc(&host, bytes, cudaHostAllocDefault), "cudaHostAlloc");
  const examples::PinnedMemory host_owner(host);
  Check(cudaMalloc(&device, bytes), "cudaMalloc");
  const examples::DeviceMemory device_owner(device);
  const examples::Stream stream;
  examples::Stopwatch stopwatch(stream.get());
  double best = INFINITY;
  for (int i = 0; i < 3; ++i) {
    stopwatch.Start();
    Check(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, stream.get()), "cudaMemcpyAsync");
    best = std::min(best, stopwatch.Stop());
  }
  return static_cast<double>(bytes) / best;
}

std::vector<uint32_t> FirstInput(uint32_t width) {
  std::vector<uint32_t> input(width);
  for (uint32_t i = 0; i < width; ++i) input[i] = 2 * i + 1;
  return input;
}

class ForwardPass {
 public:
  ForwardPass(const offload::Model& model, int passes) : model_(model), passes_(passes) {
    for (auto& vector : vectors_) {
      void* address = nullptr;
      Check(cudaMalloc(&address, Bytes()), "cudaMalloc of an activation");
      vector.reset(address);
    }
    expected_ = FirstInput(model.width);
    const examples::PhaseRange range("the result by the host");
    for (uint32_t layer = 0; layer < model.layers; ++layer) {
      expected_ = offload::LayerByHost(model.seed, layer, expected_);
    }
  }

  // `passes` times through all layers, each pass checked.
  Row Run(const offload::VariantInfo& info, double link_bytes_per_second) {
    const auto variant = info.make(model_);
    {
      const examples::PhaseRange range(std::string(info.name) + ": loading");
      variant->Load();
    }
    const offload::Traffic loaded = variant->traffic();
    examples::Stopwatch stopwatch(stream_.get());
    std::vector<double> pass_seconds;
    for (int pass = 0; pass < passes_; ++pass) {
      const examples::PhaseRange range(std::string(info.name) + ": forward pass");
      const std::vector<uint32_t> input = FirstInput(model_.width);
      Check(cudaMemcpyAsync(Vector(0), input.data(), Bytes(), cudaMemcpyHostToDevice, stream_.get()), "the input");
      Check(cudaStreamSynchronize(stream_.get()), "the input");
      stopwatch.Start();
      for (uint32_t layer = 0; layer < model_.layers; ++layer) {
        const uint32_t* const weights = variant->Use(layer, stream_.get());
        offload::EnqueueLayer(weights, model_.width, Vector(layer % 2), Vector(1 - layer % 2), stream_.get());
        variant->AfterLaunch(layer, (layer + 1) % model_.layers, stream_.get());
      }
      pass_seconds.push_back(stopwatch.Stop());
      CheckOutput(info.name, pass);
    }
    Check(cudaDeviceSynchronize(), "the end of the last pass");

    const offload::Traffic& traffic = variant->traffic();
    const double seconds = examples::SpreadOf(pass_seconds).median;
    const uint64_t bytes = model_.layers * model_.layer_bytes();
    const double over_link =
        static_cast<double>(traffic.host_to_device_bytes - loaded.host_to_device_bytes + traffic.in_place_bytes) /
        passes_;
    Row row;
    row.Set("variant", std::string(info.name)).Set("what", std::string(info.what)).Set("managed", info.managed);
    row.Set("pass_seconds", seconds).Set("weights GB/s", static_cast<double>(bytes) / seconds / 1e9);
    row.Set("share of link", over_link / seconds / link_bytes_per_second);
    row.Set("weight_bytes", bytes).Set("passes", static_cast<uint64_t>(passes_));
    row.Set("host_to_device_bytes", traffic.host_to_device_bytes);
    row.Set("device_to_host_bytes", traffic.device_to_host_bytes);
    return row.Set("in_place_bytes", traffic.in_place_bytes);
  }

 private:
  size_t Bytes() const { return model_.width * sizeof(uint32_t); }
  uint32_t* Vector(int index) { return static_cast<uint32_t*>(vectors_[index].get()); }

  void CheckOutput(const char* name, int pass) {
    std::vector<uint32_t> output(model_.width);
    Check(cudaMemcpy(output.data(), Vector(model_.layers % 2), Bytes(), cudaMemcpyDeviceToHost), "the output");
    for (uint32_t i = 0; i < model_.width; ++i) {
      if (output[i] == expected_[i]) continue;
      throw examples::WrongData(std::string(name) + ", pass " + std::to_string(pass) + ": element " +
                                std::to_string(i) + " is " + std::to_string(output[i]) + " and should be " +
                                std::to_string(expected_[i]));
    }
  }

  const offload::Model model_;
  const int passes_;
  const examples::Stream stream_;
  examples::DeviceMemory vectors_[2];
  std::vector<uint32_t> expected_;
};

int Main(int argc, char** argv) {
  CLI::App app("A forward pass with weights in host memory: read in place, faulted in, prefetched, copied.");
  examples::CommonOptions options;
  offload::Model model;
  model.layers = 8;
  int passes = 3;
  uint64_t layer_bytes = 0;
  std::vector<std::string> names;
  std::vector<std::string> known;
  for (const auto& info : offload::Variants()) known.emplace_back(info.name);
  examples::AddCommonOptions(&app, &options, "Device memory for weights (default: what is free)");
  examples::AddChoiceOption(&app, "--variant", &names, known, "Ways to hold the weights");
  app.add_option("--layers", model.layers, "Layers of the model")->check(CLI::Range(2, 1000))->capture_default_str();
  examples::AddSizeOption(&app, "--layer-bytes", &layer_bytes,
                          "Weights of a layer, rounded down to a square (default: 256 MiB, on the simulator 4 MiB)");
  app.add_option("--passes", passes, "Forward passes, as many as tokens")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  const auto parsed = examples::Parse(&app, argc, argv);
  if (parsed != examples::ParseResult::kRun) {
    return parsed == examples::ParseResult::kStopOk ? examples::kExitOk : examples::kExitRefused;
  }

  const examples::Machine machine = examples::ReadMachine();
  FILE* const out = options.json_path == "-" ? stderr : stdout;
  std::fprintf(out, "%s\n", examples::SetupLine(machine).c_str());
  if (layer_bytes == 0) layer_bytes = machine.simulated ? 4ull << 20 : 256ull << 20;
  // Multiples of 1024 words make a layer of whole 2 MiB blocks.
  model.width = static_cast<uint32_t>(std::sqrt(static_cast<double>(layer_bytes / sizeof(uint32_t)))) / 1024 * 1024;
  model.seed = options.seed;
  if (model.width == 0) throw examples::Refused("--layer-bytes must be at least 4 MiB");
  const uint64_t bytes = model.layers * model.layer_bytes();
  const uint64_t capacity = options.capacity_bytes == 0 ? machine.free_bytes : options.capacity_bytes;
  examples::RefuseOversubscription(bytes, std::min(capacity, machine.free_bytes), machine.simulated, options);
  examples::RequireDemandPaging();
  examples::RequireHostMemory(bytes + (machine.simulated ? 2 * bytes : 0), "a model in host memory");
  const double link = MeasureLink(std::min<uint64_t>(model.layer_bytes(), 256ull << 20));
  std::fprintf(out, "model: %u layers of %s, %d passes | link: %.1f GB/s by a page-locked copy\n", model.layers,
               examples::FormatBytes(model.layer_bytes()).c_str(), passes, link / 1e9);

  std::vector<Row> rows;
  ForwardPass forward_pass(model, passes);
  for (int repetition = 0; repetition < options.repeat; ++repetition) {
    for (const auto& info : offload::Variants()) {
      if (std::find(names.begin(), names.end(), info.name) == names.end()) continue;
      rows.push_back(forward_pass.Run(info, link).Set("repetition", static_cast<uint64_t>(repetition)));
    }
  }
  examples::PrintTable(out, examples::Summarise(rows, {"variant"}),
                       {"variant", "what", "pass_seconds", "pass_seconds_low", "pass_seconds_high", "weights GB/s",
                        "share of link", "host_to_device_bytes", "device_to_host_bytes", "in_place_bytes"});
  std::fprintf(out, "\ndata: ok (the output of every pass)\n");
  examples::WriteJson(options.json_path, "offload", machine, rows);
  return examples::kExitOk;
}

}  // namespace

int main(int argc, char** argv) { return examples::RunProgram("offload", &Main, argc, argv); }
