// Unified memory: the kernel uses the chunk where it is, and the driver moves its pages.
//
//   how pages come    by the kernel's page faults; by a prefetch of the chunk before the launch; by a prefetch of the
//                     next chunk, on a stream of its own, while the kernel works on this one
//   advice            none; read-mostly (the host keeps its copy); preferred on the host and mapped by the GPU (pages
//                     stay, the GPU reads them over the link); preferred on the GPU
//
// Who evicts is the plan's choice. With Eviction::kDriver the managed memory is larger than the GPU. With kProgram the
// program prefetches the least recently used chunk to the CPU before a new one comes in, so that the same bytes move in
// the same order while the GPU is never full.
#include <string>

#include "examples/common/managed_memory.h"
#include "examples/common/phase.h"
#include "examples/common/program.h"
#include "examples/oversub/mode.h"
#include "examples/oversub/resident_set.h"

namespace oversub {
namespace {

using examples::Check;

class ManagedMode : public Mode {
 public:
  ManagedMode(const Plan& plan, cudaStream_t stream, Fetch fetch, Advice advice)
      : plan_(plan), stream_(stream), fetch_(fetch), advice_(advice), resident_(plan.resident_chunks) {}

  void Allocate() override {
    for (uint64_t chunk = 0; chunk < plan_.chunks; ++chunk) {
      void* address = nullptr;
      Check(cudaMallocManaged(&address, plan_.chunk_bytes, cudaMemAttachGlobal),
            "cudaMallocManaged of chunk " + std::to_string(chunk));
      chunks_.emplace_back(address);
      GiveAdvice(chunk);
    }
    if (plan_.managed_eviction == Eviction::kDriver) TakeAwaySlack();
  }

  uint64_t* HostView(uint64_t chunk) override { return Words(chunk); }

  uint64_t* BringIn(uint64_t chunk) override {
    if (StaysOnHost()) {
      traffic_.in_place_bytes += plan_.chunk_bytes;
      return Words(chunk);
    }
    if (ahead_ == chunk) {
      ahead_.reset();
      Check(cudaStreamWaitEvent(stream_, arrived_.get(), 0), "waiting for the chunk prefetched ahead");
      return Words(chunk);
    }
    FetchChunk(chunk, stream_);
    return Words(chunk);
  }

  void LookAhead(uint64_t chunk) override {
    if (fetch_ != Fetch::kPrefetchAhead || plan_.resident_chunks < 2) return;
    FetchChunk(chunk, second_stream_.get());
    Check(cudaEventRecord(arrived_.get(), second_stream_.get()), "cudaEventRecord");
    ahead_ = chunk;
  }

  void TakeBack(uint64_t chunk) override {
    if (StaysOnHost()) return;
    if (advice_ == Advice::kReadMostly && plan_.readonly) return;  // the host has kept its copy
    resident_.Remove(chunk);
    traffic_.device_to_host_bytes += plan_.chunk_bytes;
    if (fetch_ == Fetch::kFaults) return;  // the host's page faults will bring it
    examples::Prefetch(Words(chunk), plan_.chunk_bytes, examples::kHost, stream_);
    Check(cudaStreamSynchronize(stream_), "prefetching a chunk to the CPU");
  }

  // Nothing to do: the host's page faults bring back what is still on the GPU, all of it when all of it is read.
  void FlushToHost() override {
    if (advice_ == Advice::kReadMostly && plan_.readonly) return;
    traffic_.device_to_host_bytes += resident_.chunks().size() * plan_.chunk_bytes;
  }

 private:
  uint64_t* Words(uint64_t chunk) { return static_cast<uint64_t*>(chunks_[chunk].get()); }

  bool StaysOnHost() const { return advice_ == Advice::kPreferHost && fetch_ == Fetch::kFaults; }

  void GiveAdvice(uint64_t chunk) {
    if (advice_ == Advice::kReadMostly) {
      examples::Advise(Words(chunk), plan_.chunk_bytes, cudaMemAdviseSetReadMostly, /*device=*/0);
    } else if (advice_ == Advice::kPreferHost) {
      examples::Advise(Words(chunk), plan_.chunk_bytes, cudaMemAdviseSetPreferredLocation, examples::kHost);
      examples::Advise(Words(chunk), plan_.chunk_bytes, cudaMemAdviseSetAccessedBy, /*device=*/0);
    } else if (advice_ == Advice::kPreferGpu) {
      examples::Advise(Words(chunk), plan_.chunk_bytes, cudaMemAdviseSetPreferredLocation, /*device=*/0);
    }
  }

  // Makes room for the chunk, and asks for it unless page faults shall fetch it.
  void FetchChunk(uint64_t chunk, cudaStream_t stream) {
    const ResidentSet::Outcome outcome = resident_.Use(chunk);
    if (outcome.victim) Evict(*outcome.victim, stream);
    if (fetch_ != Fetch::kFaults) examples::Prefetch(Words(chunk), plan_.chunk_bytes, /*device=*/0, stream);
    if (!outcome.was_resident) traffic_.host_to_device_bytes += plan_.chunk_bytes;
  }

  void Evict(uint64_t victim, cudaStream_t stream) {
    const bool has_host_copy = advice_ == Advice::kReadMostly && plan_.readonly;
    // Written or not: the driver cannot tell, so clean pages travel too, unless a copy of them has stayed.
    if (!has_host_copy) traffic_.device_to_host_bytes += plan_.chunk_bytes;
    if (plan_.managed_eviction == Eviction::kDriver) return;
    if (advice_ == Advice::kReadMostly) {
      // A prefetch to the CPU would leave the GPU's copy where it is; without the advice one copy remains, the host's.
      examples::Advise(Words(victim), plan_.chunk_bytes, cudaMemAdviseUnsetReadMostly, /*device=*/0);
    }
    examples::Prefetch(Words(victim), plan_.chunk_bytes, examples::kHost, stream);
    if (advice_ == Advice::kReadMostly) {
      Check(cudaStreamSynchronize(stream), "prefetching a chunk to the CPU");
      GiveAdvice(victim);
    }
  }

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
  const Fetch fetch_;
  const Advice advice_;
  ResidentSet resident_;
  std::vector<examples::ManagedMemory> chunks_;
  examples::DeviceMemory slack_;
  examples::Stream second_stream_;
  examples::Event arrived_;
  std::optional<uint64_t> ahead_;  // the chunk that was fetched ahead
};

}  // namespace

std::unique_ptr<Mode> MakeManagedMode(const Plan& plan, cudaStream_t stream, Fetch fetch, Advice advice) {
  return std::make_unique<ManagedMode>(plan, stream, fetch, advice);
}

}  // namespace oversub
