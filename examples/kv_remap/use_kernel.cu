#include "examples/common/program.h"
#include "examples/kv_remap/use_kernel.h"
#include "sim/include/uvmsim.h"

namespace remap {
namespace {

using examples::Check;

__device__ uint64_t Nanoseconds() {
  uint64_t now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  return now;
}

// gridDim.y is the number of needed blocks; the thread blocks of a row share one of them.
__global__ void UseBlocks(Mapping mapping, uint64_t block_bytes, const uint32_t* needed, const uint32_t* versions,
                          uint32_t kernel_us, unsigned long long* wrong) {
  const uint64_t start = Nanoseconds();
  const uint32_t block = needed[blockIdx.y];
  const uint32_t version = versions[blockIdx.y];
  const int64_t offset =
      mapping.table != nullptr ? mapping.table[block] : static_cast<int64_t>(block) * static_cast<int64_t>(block_bytes);
  auto* const words = reinterpret_cast<uint64_t*>(mapping.memory + offset);
  const uint64_t count = block_bytes / sizeof(uint64_t);
  unsigned long long mine = 0;
  for (uint64_t i = static_cast<uint64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
       i += static_cast<uint64_t>(gridDim.x) * blockDim.x) {
    mine += words[i] != WordOf(block, version, i);
    words[i] = WordOf(block, version + 1, i);
  }
  if (mine != 0) atomicAdd(wrong, mine);
  while (Nanoseconds() - start < kernel_us * 1000ull) {
  }
}

void UseBlocksOnHost(const UvmsimLaunch* launch) {
  const auto mapping = UvmsimArgument<Mapping>(launch, 0);
  const auto block_bytes = UvmsimArgument<uint64_t>(launch, 1);
  const auto* const needed = UvmsimArgument<const uint32_t*>(launch, 2);
  const auto* const versions = UvmsimArgument<const uint32_t*>(launch, 3);
  uvmsim_compute(launch, UvmsimArgument<uint32_t>(launch, 4) * 1e3);
  auto* const wrong = UvmsimArgument<unsigned long long*>(launch, 5);
  unsigned long long found = 0;
  for (unsigned row = 0; row < launch->grid.y; ++row) {
    const void* view = uvmsim_access(launch, needed + row, sizeof(uint32_t), UVMSIM_READ);
    if (view == nullptr) return;
    const uint32_t block = *static_cast<const uint32_t*>(view);
    view = uvmsim_access(launch, versions + row, sizeof(uint32_t), UVMSIM_READ);
    if (view == nullptr) return;
    const uint32_t version = *static_cast<const uint32_t*>(view);
    int64_t offset = static_cast<int64_t>(block) * static_cast<int64_t>(block_bytes);
    if (mapping.table != nullptr) {
      view = uvmsim_access(launch, mapping.table + block, sizeof(int64_t), UVMSIM_READ);
      if (view == nullptr) return;
      offset = *static_cast<const int64_t*>(view);
    }
    UvmsimForEachSpan(launch, reinterpret_cast<uint64_t*>(mapping.memory + offset), block_bytes / sizeof(uint64_t),
                      UVMSIM_READ_WRITE, [&](uint64_t* span, size_t count, size_t first) {
                        for (size_t i = 0; i < count; ++i) {
                          found += span[i] != WordOf(block, version, first + i);
                          span[i] = WordOf(block, version + 1, first + i);
                        }
                      });
  }
  auto* const total = static_cast<unsigned long long*>(uvmsim_access(launch, wrong, sizeof(*wrong), UVMSIM_READ_WRITE));
  if (total != nullptr) *total += found;
}

UVMSIM_REGISTER(UseBlocks, UseBlocksOnHost);

examples::DeviceMemory Upload(const std::vector<uint32_t>& values) {
  void* address = nullptr;
  Check(cudaMalloc(&address, values.size() * sizeof(uint32_t)), "cudaMalloc of the schedule");
  examples::DeviceMemory memory(address);
  Check(cudaMemcpy(address, values.data(), values.size() * sizeof(uint32_t), cudaMemcpyHostToDevice), "the schedule");
  return memory;
}

}  // namespace

Consumer::Consumer(const Shape& shape, const std::vector<Step>& schedule, uint32_t kernel_us)
    : shape_(shape), kernel_us_(kernel_us) {
  std::vector<uint32_t> needed;
  std::vector<uint32_t> versions;
  for (const Step& step : schedule) {
    needed.insert(needed.end(), step.needed.begin(), step.needed.end());
    versions.insert(versions.end(), step.versions.begin(), step.versions.end());
  }
  needed_ = Upload(needed);
  versions_ = Upload(versions);
  wrong_ = Upload({0, 0});
  Check(cudaDeviceSynchronize(), "uploading the schedule");  // the loop's stream would not wait for it
}

void Consumer::Enqueue(uint32_t number, const Mapping& mapping, cudaStream_t stream) {
  const size_t first = static_cast<size_t>(number) * shape_.window;
  UseBlocks<<<dim3(8, shape_.window), 256, 0, stream>>>(mapping, shape_.block_bytes,
                                                        static_cast<const uint32_t*>(needed_.get()) + first,
                                                        static_cast<const uint32_t*>(versions_.get()) + first,
                                                        kernel_us_, static_cast<unsigned long long*>(wrong_.get()));
  Check(cudaGetLastError(), "launching UseBlocks");
}

unsigned long long Consumer::WrongWords() {
  unsigned long long wrong = 0;
  Check(cudaDeviceSynchronize(), "waiting for the last step");
  Check(cudaMemcpy(&wrong, wrong_.get(), sizeof(wrong), cudaMemcpyDeviceToHost), "the number of wrong words");
  return wrong;
}

}  // namespace remap
