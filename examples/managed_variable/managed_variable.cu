// managed_variable: a __managed__ array that no call allocates, touched by the program's first statement and then by
// both sides in turn.
//
// The compiler's start-up code registers the array before main, and every function that names it first asks the runtime
// to load the module (__cudaInitModule). So the memory comes into being beneath the runtime, between two statements,
// and the first fault on it follows at once: a tool that waits for an allocating call has missed it by then.
//
// The array is the only managed memory, its size is a whole number of 2 MiB blocks, and every round the host writes all
// of it and the GPU changes all of it: each round moves it once there and once back. Where it lies when it is first
// touched is the driver's choice, so one more device-to-host copy of it may come before.
#include <cinttypes>
#include <cstdio>

#include "examples/common/machine.h"
#include "examples/common/program.h"
#include "sim/include/uvmsim.h"

namespace {

using examples::Check;

constexpr uint64_t kBytes = 8ull << 20;
constexpr size_t kWords = kBytes / sizeof(uint32_t);
constexpr int kRounds = 3;

}  // namespace

// Outside of the unnamed namespace: the name is part of the GPU code.
__managed__ uint32_t managed_words[kWords];

namespace {

__host__ __device__ uint32_t Changed(uint32_t word) { return word * 2654435761u + 1; }

__global__ void ChangeWords(uint32_t* words, size_t word_count) {
  const size_t stride = static_cast<size_t>(gridDim.x) * blockDim.x;
  for (size_t i = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < word_count; i += stride) {
    words[i] = Changed(words[i]);
  }
}

void ChangeWordsOnHost(const UvmsimLaunch* launch) {
  uint32_t* const words = UvmsimArgument<uint32_t*>(launch, 0);
  const size_t word_count = UvmsimArgument<size_t>(launch, 1);
  UvmsimForEachSpan(launch, words, word_count, UVMSIM_READ_WRITE, [](uint32_t* span, size_t count, size_t) {
    for (size_t i = 0; i < count; ++i) span[i] = Changed(span[i]);
  });
}

UVMSIM_REGISTER(ChangeWords, ChangeWordsOnHost);

int Main(int, char**) {
  for (int round = 0; round < kRounds; ++round) {
    for (size_t i = 0; i < kWords; ++i) managed_words[i] = static_cast<uint32_t>(i) + round;
    ChangeWords<<<256, 256>>>(managed_words, kWords);
    Check(cudaGetLastError(), "launching ChangeWords");
    Check(cudaDeviceSynchronize(), "waiting for ChangeWords");
    for (size_t i = 0; i < kWords; ++i) {
      if (managed_words[i] != Changed(static_cast<uint32_t>(i) + round)) {
        throw examples::WrongData("word " + std::to_string(i) + " of round " + std::to_string(round));
      }
    }
  }
  // Now, for asking would be a CUDA call before the first touch.
  examples::RequireDemandPaging();
  std::printf("%s\n", examples::SetupLine(examples::ReadMachine()).c_str());
  std::printf("expected host_to_device_bytes: %" PRIu64 "\nexpected device_to_host_bytes: %" PRIu64 " or %" PRIu64 "\n",
              kRounds * kBytes, kRounds * kBytes, (kRounds + 1) * kBytes);
  std::printf("expected managed allocation: %" PRIu64 " bytes\ndata: ok (every word, in every round)\n", kBytes);
  return examples::kExitOk;
}

}  // namespace

int main(int argc, char** argv) { return examples::RunProgram("managed_variable", &Main, argc, argv); }
