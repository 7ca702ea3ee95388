// zero_copy: page-locked host memory that a kernel reads in place, against managed memory that it reads.
//
// Both are "host memory that the GPU can use", and both are sold as unified. Page-locked memory stays where it is:
// every pass reads it over the link, there is no fault, no migration and no copy record, so a tool that only looks at
// those sees nothing at all. Managed memory moves on the first pass and is read at the speed of device memory from then
// on. Managed memory that prefers the host and is mapped by the GPU behaves like the page-locked kind.
#include <CLI/CLI.hpp>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <string>
#include <vector>

#include "examples/common/host_memory.h"
#include "examples/common/machine.h"
#include "examples/common/managed_memory.h"
#include "examples/common/program.h"
#include "sim/include/uvmsim.h"

namespace {

using examples::Check;
using Clock = std::chrono::steady_clock;

constexpr uint64_t kBlockBytes = 2ull << 20;
constexpr int kThreads = 256;

__host__ __device__ uint64_t WordAt(uint64_t index) { return (index ^ (index >> 7)) * 0x9e3779b97f4a7c15ull; }

// *sum += all words, modulo 2^64: no order of the additions changes it.
__global__ void SumWords(const uint64_t* words, size_t word_count, unsigned long long* sum) {
  __shared__ unsigned long long part;
  if (threadIdx.x == 0) part = 0;
  __syncthreads();
  unsigned long long mine = 0;
  const size_t stride = static_cast<size_t>(gridDim.x) * blockDim.x;
  for (size_t i = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < word_count; i += stride) {
    mine += words[i];
  }
  atomicAdd(&part, mine);
  __syncthreads();
  if (threadIdx.x == 0) atomicAdd(sum, part);
}

void SumWordsOnHost(const UvmsimLaunch* launch) {
  const uint64_t* const words = UvmsimArgument<const uint64_t*>(launch, 0);
  const size_t word_count = UvmsimArgument<size_t>(launch, 1);
  unsigned long long* const sum = UvmsimArgument<unsigned long long*>(launch, 2);
  unsigned long long total = 0;
  UvmsimForEachSpan(launch, words, word_count, UVMSIM_READ, [&](const uint64_t* span, size_t count, size_t) {
    for (size_t i = 0; i < count; ++i) total += span[i];
  });
  auto* const view = static_cast<unsigned long long*>(uvmsim_access(launch, sum, sizeof(*sum), UVMSIM_READ_WRITE));
  if (view != nullptr) *view += total;
}

UVMSIM_REGISTER(SumWords, SumWordsOnHost);

double SecondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

class Comparison {
 public:
  Comparison(uint64_t bytes, int passes) : bytes_(bytes), word_count_(bytes / sizeof(uint64_t)), passes_(passes) {
    for (size_t i = 0; i < word_count_; ++i) expected_sum_ += WordAt(i);
    void* sum = nullptr;
    Check(cudaMalloc(&sum, sizeof(unsigned long long)), "cudaMalloc of the sum");
    sum_.reset(sum);
    Read(nullptr, 0);  // loads the kernel before anything is timed
    std::printf("\n| memory | pass | seconds | GB/s | expected to migrate [bytes] |\n|---|---:|---:|---:|---:|\n");
  }

  void ReadPinned() {
    void* address = nullptr;
    Check(cudaHostAlloc(&address, bytes_, cudaHostAllocMapped), "cudaHostAlloc");
    const examples::PinnedMemory memory(address);
    Fill(address);
    void* on_device = nullptr;
    Check(cudaHostGetDevicePointer(&on_device, address, 0), "cudaHostGetDevicePointer");
    ReadPasses("page-locked, read in place", on_device, /*migrates=*/false);
  }

  void ReadManaged() {
    void* address = nullptr;
    Check(cudaMallocManaged(&address, bytes_, cudaMemAttachGlobal), "cudaMallocManaged");
    const examples::ManagedMemory memory(address);
    Fill(address);
    ReadPasses("managed", address, /*migrates=*/true);
  }

  void ReadManagedInPlace() {
    void* address = nullptr;
    Check(cudaMallocManaged(&address, bytes_, cudaMemAttachGlobal), "cudaMallocManaged");
    const examples::ManagedMemory memory(address);
    // Advice before the first touch: the pages are then made on the host and mapped into the GPU at once.
    examples::Advise(address, bytes_, cudaMemAdviseSetPreferredLocation, examples::kHost);
    examples::Advise(address, bytes_, cudaMemAdviseSetAccessedBy, 0);
    Fill(address);
    ReadPasses("managed, prefers the host, mapped by the GPU", address, /*migrates=*/false);
  }

 private:
  void Fill(void* address) const {
    uint64_t* const words = static_cast<uint64_t*>(address);
    for (size_t i = 0; i < word_count_; ++i) words[i] = WordAt(i);
  }

  void ReadPasses(const std::string& name, const void* address, bool migrates) {
    for (int pass = 1; pass <= passes_; ++pass) {
      const auto start = Clock::now();
      const unsigned long long sum = Read(address, word_count_);
      const double seconds = SecondsSince(start);
      if (sum != expected_sum_) {
        char text[160];
        std::snprintf(text, sizeof(text), "%s, pass %d: expected the sum %016llx, found %016llx", name.c_str(), pass,
                      expected_sum_, sum);
        throw examples::WrongData(text);
      }
      std::printf("| %s | %d | %.5f | %.2f | %" PRIu64 " |\n", name.c_str(), pass, seconds,
                  static_cast<double>(bytes_) / seconds / 1e9, migrates && pass == 1 ? bytes_ : 0);
    }
  }

  unsigned long long Read(const void* words, size_t word_count) {
    unsigned long long sum = 0;
    auto* const device_sum = static_cast<unsigned long long*>(sum_.get());
    Check(cudaMemset(device_sum, 0, sizeof(sum)), "cudaMemset of the sum");
    SumWords<<<1024, kThreads>>>(static_cast<const uint64_t*>(words), word_count, device_sum);
    Check(cudaGetLastError(), "launching SumWords");
    Check(cudaMemcpy(&sum, device_sum, sizeof(sum), cudaMemcpyDeviceToHost), "reading the sum");
    return sum;
  }

  const uint64_t bytes_;
  const size_t word_count_;
  const int passes_;
  unsigned long long expected_sum_ = 0;
  examples::DeviceMemory sum_;
};

int Main(int argc, char** argv) {
  CLI::App app("A kernel reads page-locked host memory in place, and managed memory: what moves, and how fast?");
  uint64_t bytes = 0;
  int passes = 3;
  app.add_option("--bytes", bytes,
                 "Size of each buffer (default: 256 MiB on a GPU, 16 MiB on the simulator); rounded down to 2 MiB")
      ->transform(CLI::AsSizeValue(/*kb_is_1000=*/false));
  app.add_option("--passes", passes, "How often each buffer is read")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? examples::kExitOk : examples::kExitRefused;
  }

  const examples::Machine machine = examples::ReadMachine();
  std::printf("%s\n", examples::SetupLine(machine).c_str());
  if (app.count("--bytes") == 0) bytes = machine.simulated ? 16ull << 20 : 256ull << 20;
  bytes = bytes / kBlockBytes * kBlockBytes;
  if (bytes == 0) throw examples::Refused("--bytes must be at least 2 MiB");
  if (bytes + kBlockBytes > machine.free_bytes) {
    throw examples::Refused(examples::FormatBytes(bytes) + " do not fit into the " +
                            examples::FormatBytes(machine.free_bytes) + " of free device memory");
  }
  examples::RequireDemandPaging();
  examples::RequireHostMemory(machine.simulated ? 2 * bytes : bytes, "zero_copy");

  Comparison comparison(bytes, passes);
  comparison.ReadPinned();
  comparison.ReadManaged();
  comparison.ReadManagedInPlace();
  std::printf("\ndata: ok (the sum of every pass)\n");
  return examples::kExitOk;
}

}  // namespace

int main(int argc, char** argv) { return examples::RunProgram("zero_copy", &Main, argc, argv); }
