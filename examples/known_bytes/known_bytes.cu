// known_bytes: moves a number of bytes that is known before the tracer says it, to check the tracer.
//
// The host writes N bytes of managed memory, a kernel changes each of them, the host reads them all back. Nothing else
// touches them, the GPU has room for all, and there is no advice or prefetch: the driver must bring N bytes to the GPU
// and N bytes back, once for each repetition. A tool that reports less loses records; one that reports more counts
// twice.
#include <CLI/CLI.hpp>
#include <chrono>
#include <cinttypes>
#include <cstdio>

#include "examples/common/host_memory.h"
#include "examples/common/machine.h"
#include "examples/common/managed_memory.h"
#include "examples/common/program.h"
#include "sim/include/uvmsim.h"

namespace {

using examples::Check;
using Clock = std::chrono::steady_clock;

constexpr uint64_t kBlockBytes = 2ull << 20;

__host__ __device__ uint64_t WordOfHost(uint64_t index, uint64_t round) {
  return (index + 1) * 0x9e3779b97f4a7c15ull + round;
}
__host__ __device__ uint64_t Changed(uint64_t word) { return ~word * 0xbf58476d1ce4e5b9ull; }

__global__ void ChangeWords(uint64_t* words, size_t word_count) {
  const size_t stride = static_cast<size_t>(gridDim.x) * blockDim.x;
  for (size_t i = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < word_count; i += stride) {
    words[i] = Changed(words[i]);
  }
}

void ChangeWordsOnHost(const UvmsimLaunch* launch) {
  uint64_t* const words = UvmsimArgument<uint64_t*>(launch, 0);
  const size_t word_count = UvmsimArgument<size_t>(launch, 1);
  UvmsimForEachSpan(launch, words, word_count, UVMSIM_READ_WRITE, [](uint64_t* span, size_t count, size_t) {
    for (size_t i = 0; i < count; ++i) span[i] = Changed(span[i]);
  });
}

UVMSIM_REGISTER(ChangeWords, ChangeWordsOnHost);

double SecondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

void Run(uint64_t bytes, int repetitions) {
  void* address = nullptr;
  Check(cudaMallocManaged(&address, bytes, cudaMemAttachGlobal), "cudaMallocManaged");
  const examples::ManagedMemory memory(address);
  uint64_t* const words = static_cast<uint64_t*>(address);
  const size_t word_count = bytes / sizeof(uint64_t);

  std::printf("\n| repetition | host writes [s] | GPU changes [s] | host reads back [s] |\n|---:|---:|---:|---:|\n");
  for (int repetition = 1; repetition <= repetitions; ++repetition) {
    auto start = Clock::now();
    for (size_t i = 0; i < word_count; ++i) words[i] = WordOfHost(i, repetition);
    const double host_write_seconds = SecondsSince(start);

    start = Clock::now();
    ChangeWords<<<1024, 256>>>(words, word_count);
    Check(cudaGetLastError(), "launching ChangeWords");
    Check(cudaDeviceSynchronize(), "waiting for ChangeWords");
    const double gpu_seconds = SecondsSince(start);

    start = Clock::now();
    for (size_t i = 0; i < word_count; ++i) {
      const uint64_t expected = Changed(WordOfHost(i, repetition));
      if (words[i] == expected) continue;
      char text[160];
      std::snprintf(text, sizeof(text), "word %zu of repetition %d: expected %016" PRIx64 ", found %016" PRIx64, i,
                    repetition, expected, words[i]);
      throw examples::WrongData(text);
    }
    std::printf("| %d | %.4f | %.4f | %.4f |\n", repetition, host_write_seconds, gpu_seconds, SecondsSince(start));
  }
}

int Main(int argc, char** argv) {
  CLI::App app("Moves a known number of bytes of managed memory to the GPU and back, to check a tracer against.");
  uint64_t bytes = 0;
  int repetitions = 1;
  app.add_option("--bytes", bytes,
                 "How many, as 64MiB or 1GiB (default: 1 GiB on a GPU, 64 MiB on the simulator); rounded down to 2 MiB")
      ->transform(CLI::AsSizeValue(/*kb_is_1000=*/false));
  app.add_option("--repeat", repetitions, "How often")->check(CLI::Range(1, 1000))->capture_default_str();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? examples::kExitOk : examples::kExitRefused;
  }

  const examples::Machine machine = examples::ReadMachine();
  std::printf("%s\n", examples::SetupLine(machine).c_str());
  const bool is_default = app.count("--bytes") == 0;
  if (is_default) bytes = machine.simulated ? 64ull << 20 : 1ull << 30;
  bytes = bytes / kBlockBytes * kBlockBytes;  // a shared block could move more than its part
  if (bytes == 0) throw examples::Refused("--bytes must be at least 2 MiB");
  if (bytes > machine.free_bytes) {
    throw examples::Refused(examples::FormatBytes(bytes) + " are more than the " +
                            examples::FormatBytes(machine.free_bytes) +
                            " of free device memory: pages would be evicted and the bytes no longer known");
  }
  examples::RequireDemandPaging();
  examples::RequireHostMemory(machine.simulated ? 2 * bytes : bytes, "known_bytes");

  const uint64_t expected_bytes = bytes * static_cast<uint64_t>(repetitions);
  std::printf("expected host_to_device_bytes: %" PRIu64 "\nexpected device_to_host_bytes: %" PRIu64 "\n",
              expected_bytes, expected_bytes);
  Run(bytes, repetitions);
  std::printf("\ndata: ok (every word, in every repetition)\n");
  return examples::kExitOk;
}

}  // namespace

int main(int argc, char** argv) { return examples::RunProgram("known_bytes", &Main, argc, argv); }
