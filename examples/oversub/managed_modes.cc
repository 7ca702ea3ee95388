// Unified memory: the kernel uses the chunk where it is, and the driver moves its pages. "uvm" lets the kernel's page
// faults fetch them; "prefetch" asks for the whole chunk before the launch.
//
// Who evicts is the plan's choice. With Eviction::kDriver the managed memory is larger than the GPU. With kProgram the
// program prefetches the least recently used chunk to the CPU before a new one comes in, so that the same bytes move in
// the same order while the GPU is never full.
#include <string>

#include "examples/common/managed_memory.h"
#include "examples/common/program.h"
#include "examples/oversub/mode.h"
#include "examples/oversub/resident_set.h"

namespace oversub {
namespace {

using examples::Check;

class ManagedMode : public Mode {
 public:
  ManagedMode(const Plan& plan, cudaStream_t stream, bool prefetch)
      : plan_(plan), stream_(stream), prefetch_(prefetch), resident_(plan.resident_chunks) {}

  void Allocate() override {
    for (uint64_t chunk = 0; chunk < plan_.chunks; ++chunk) {
      void* address = nullptr;
      Check(cudaMallocManaged(&address, plan_.chunk_bytes, cudaMemAttachGlobal),
            "cudaMallocManaged of chunk " + std::to_string(chunk));
      chunks_.emplace_back(address);
    }
    if (plan_.managed_eviction == Eviction::kDriver) TakeAwaySlack();
  }

  uint64_t* HostView(uint64_t chunk) override { return Words(chunk); }

  uint64_t* BringIn(uint64_t chunk) override {
    const ResidentSet::Outcome outcome = resident_.Use(chunk);
    if (outcome.victim) {
      if (plan_.managed_eviction == Eviction::kProgram) {
        examples::Prefetch(Words(*outcome.victim), plan_.chunk_bytes, examples::kHost, stream_);
      }
      // Written or not: the driver cannot tell, so clean pages travel too.
      traffic_.device_to_host_bytes += plan_.chunk_bytes;
    }
    if (prefetch_) examples::Prefetch(Words(chunk), plan_.chunk_bytes, /*device=*/0, stream_);
    if (!outcome.was_resident) traffic_.host_to_device_bytes += plan_.chunk_bytes;
    return Words(chunk);
  }

  // Nothing to do: the host's page faults bring back what is still on the GPU, all of it when all of it is read.
  void FlushToHost() override { traffic_.device_to_host_bytes += resident_.chunks().size() * plan_.chunk_bytes; }

 private:
  uint64_t* Words(uint64_t chunk) { return static_cast<uint64_t*>(chunks_[chunk].get()); }

  // Room for exactly k chunks: capacity / k was rounded down to 2 MiB, and the rest would hold part of a chunk more.
  // With it taken away, a run of N cycles moves N * m chunks in and N * m - k chunks out, no more and no less.
  void TakeAwaySlack() {
    constexpr size_t kBlockBytes = 2u << 20;
    size_t free_bytes = 0;
    size_t total_bytes = 0;
    Check(cudaMemGetInfo(&free_bytes, &total_bytes), "cudaMemGetInfo");
    const size_t wanted_bytes = plan_.resident_chunks * plan_.chunk_bytes;
    if (free_bytes < wanted_bytes + kBlockBytes) return;
    const size_t slack_bytes = (free_bytes - wanted_bytes) / kBlockBytes * kBlockBytes;
    void* address = nullptr;
    Check(cudaMalloc(&address, slack_bytes), "cudaMalloc of the device memory beyond k chunks");
    slack_.reset(address);
  }

  const Plan plan_;
  const cudaStream_t stream_;
  const bool prefetch_;
  ResidentSet resident_;
  std::vector<examples::ManagedMemory> chunks_;
  examples::DeviceMemory slack_;
};

}  // namespace

std::unique_ptr<Mode> MakeManagedMode(const Plan& plan, cudaStream_t stream, bool prefetch) {
  return std::make_unique<ManagedMode>(plan, stream, prefetch);
}

}  // namespace oversub
