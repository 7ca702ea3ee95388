// Swapping by hand: k slots on the GPU, m chunks on the host, and copies between them. "manual" keeps the chunks in
// ordinary (pageable) host memory, whose copies the driver stages through a buffer of its own; "pinned" page-locks
// them, so that the copy engine reads them directly.
#include <chrono>
#include <cstdlib>
#include <string>

#include "examples/common/managed_memory.h"
#include "examples/common/program.h"
#include "examples/oversub/mode.h"
#include "examples/oversub/resident_set.h"

namespace oversub {
namespace {

using examples::Check;

struct HeapFree {
  void operator()(void* address) const { std::free(address); }
};

class ManualMode : public Mode {
 public:
  ManualMode(const Plan& plan, cudaStream_t stream, bool pinned)
      : plan_(plan), stream_(stream), pinned_(pinned), resident_(plan.resident_chunks) {}

  void Allocate() override {
    const uint64_t slot_count = std::min(plan_.resident_chunks, plan_.chunks);
    for (uint64_t slot = 0; slot < slot_count; ++slot) {
      void* address = nullptr;
      Check(cudaMalloc(&address, plan_.chunk_bytes), "cudaMalloc of device slot " + std::to_string(slot));
      slots_.emplace_back(address);
    }
    slot_of_chunk_.resize(plan_.chunks);
    if (!pinned_) {
      for (uint64_t chunk = 0; chunk < plan_.chunks; ++chunk) {
        void* address = std::malloc(plan_.chunk_bytes);
        if (address == nullptr) throw std::runtime_error("malloc of host chunk " + std::to_string(chunk) + " failed");
        heap_chunks_.emplace_back(address);
      }
      return;
    }
    const auto start = std::chrono::steady_clock::now();
    for (uint64_t chunk = 0; chunk < plan_.chunks; ++chunk) {
      void* address = nullptr;
      Check(cudaHostAlloc(&address, plan_.chunk_bytes, cudaHostAllocDefault),
            "cudaHostAlloc of host chunk " + std::to_string(chunk));
      pinned_chunks_.emplace_back(address);
    }
    pinning_seconds_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

  double pinning_seconds() const override { return pinning_seconds_; }

  uint64_t* HostView(uint64_t chunk) override {
    return static_cast<uint64_t*>(pinned_ ? pinned_chunks_[chunk].get() : heap_chunks_[chunk].get());
  }

  uint64_t* BringIn(uint64_t chunk) override {
    const ResidentSet::Outcome outcome = resident_.Use(chunk);
    if (outcome.was_resident) return Slot(chunk);
    if (outcome.victim) {
      // A program that swaps by hand knows that it has not written, and throws a clean chunk away. The driver does not.
      if (!plan_.readonly) CopyToHost(*outcome.victim);
      slot_of_chunk_[chunk] = slot_of_chunk_[*outcome.victim];
    } else {
      slot_of_chunk_[chunk] = used_slots_++;
    }
    Copy(Slot(chunk), HostView(chunk), cudaMemcpyHostToDevice);
    traffic_.host_to_device_bytes += plan_.chunk_bytes;
    return Slot(chunk);
  }

  void FlushToHost() override {
    if (!plan_.readonly) {
      for (const uint64_t chunk : resident_.chunks()) CopyToHost(chunk);
    }
    Check(cudaStreamSynchronize(stream_), "waiting for the last copies");
  }

 private:
  uint64_t* Slot(uint64_t chunk) { return static_cast<uint64_t*>(slots_[slot_of_chunk_[chunk]].get()); }

  void CopyToHost(uint64_t chunk) {
    Copy(HostView(chunk), Slot(chunk), cudaMemcpyDeviceToHost);
    traffic_.device_to_host_bytes += plan_.chunk_bytes;
  }

  void Copy(void* to, const void* from, cudaMemcpyKind kind) {
    // With pageable memory an asynchronous copy is asynchronous only in name.
    if (pinned_) {
      Check(cudaMemcpyAsync(to, from, plan_.chunk_bytes, kind, stream_), "cudaMemcpyAsync of a chunk");
    } else {
      Check(cudaMemcpy(to, from, plan_.chunk_bytes, kind), "cudaMemcpy of a chunk");
    }
  }

  const Plan plan_;
  const cudaStream_t stream_;
  const bool pinned_;
  ResidentSet resident_;
  std::vector<examples::DeviceMemory> slots_;
  std::vector<examples::PinnedMemory> pinned_chunks_;
  std::vector<std::unique_ptr<void, HeapFree>> heap_chunks_;
  std::vector<uint64_t> slot_of_chunk_;
  uint64_t used_slots_ = 0;
  double pinning_seconds_ = 0;
};

}  // namespace

std::unique_ptr<Mode> MakeManualMode(const Plan& plan, cudaStream_t stream, bool pinned) {
  return std::make_unique<ManualMode>(plan, stream, pinned);
}

}  // namespace oversub
