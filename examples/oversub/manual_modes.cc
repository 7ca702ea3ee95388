// Swapping by hand: k slots on the GPU, m chunks on the host, and copies between them.
//
//   manual        ordinary (pageable) host memory, whose copies the driver stages through a buffer of its own
//   pinned        page-locked memory, which the copy engine reads and writes directly
//   pinned-ahead  page-locked memory, double-buffered: while the kernel works on a chunk the next one comes in. It
//   comes
//                 in pieces: one copy engine empties a piece of the victim's slot, the other fills the piece before it.
#include <chrono>
#include <cstdlib>
#include <string>

#include "examples/common/managed_memory.h"
#include "examples/common/phase.h"
#include "examples/common/program.h"
#include "examples/oversub/mode.h"
#include "examples/oversub/resident_set.h"

namespace oversub {
namespace {

using examples::Check;

constexpr int kPieces = 8;

struct HeapFree {
  void operator()(void* address) const { std::free(address); }
};

class ManualMode : public Mode {
 public:
  ManualMode(const Plan& plan, cudaStream_t stream, HostKind kind)
      : plan_(plan), stream_(stream), kind_(kind), resident_(plan.resident_chunks), pieces_left_(kPieces) {}

  void Allocate() override {
    const uint64_t slot_count = std::min(plan_.resident_chunks, plan_.chunks);
    for (uint64_t slot = 0; slot < slot_count; ++slot) {
      void* address = nullptr;
      Check(cudaMalloc(&address, plan_.chunk_bytes), "cudaMalloc of device slot " + std::to_string(slot));
      slots_.emplace_back(address);
      free_slots_.push_back(slot_count - 1 - slot);
    }
    slot_of_chunk_.resize(plan_.chunks);
    if (kind_ == HostKind::kPageable) {
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
    return static_cast<uint64_t*>(kind_ == HostKind::kPageable ? heap_chunks_[chunk].get()
                                                               : pinned_chunks_[chunk].get());
  }

  uint64_t* BringIn(uint64_t chunk) override {
    if (ahead_ == chunk) {
      ahead_.reset();
      Check(cudaStreamWaitEvent(stream_, arrived_.get(), 0), "waiting for the chunk copied ahead");
      return Slot(chunk);
    }
    const ResidentSet::Outcome outcome = resident_.Use(chunk);
    if (outcome.was_resident) return Slot(chunk);
    if (outcome.victim) CopyToHost(*outcome.victim);
    TakeSlot(chunk, outcome);
    Copy(Slot(chunk), HostView(chunk), cudaMemcpyHostToDevice);
    traffic_.host_to_device_bytes += plan_.chunk_bytes;
    return Slot(chunk);
  }

  void LookAhead(uint64_t chunk) override {
    if (kind_ != HostKind::kPinnedAhead || plan_.resident_chunks < 2) return;
    const ResidentSet::Outcome outcome = resident_.Use(chunk);
    if (outcome.was_resident) return;
    TakeSlot(chunk, outcome);
    const bool write_back = outcome.victim && !plan_.readonly;
    const uint64_t words = plan_.words_per_chunk() / kPieces;
    for (int piece = 0; piece < kPieces; ++piece) {
      uint64_t* const in_slot = Slot(chunk) + piece * words;
      if (write_back) {
        Check(cudaMemcpyAsync(HostView(*outcome.victim) + piece * words, in_slot, words * sizeof(uint64_t),
                              cudaMemcpyDeviceToHost, out_.get()),
              "cudaMemcpyAsync of a piece to the host");
        Check(cudaEventRecord(pieces_left_[piece].get(), out_.get()), "cudaEventRecord");
        Check(cudaStreamWaitEvent(in_.get(), pieces_left_[piece].get(), 0), "cudaStreamWaitEvent");
      }
      Check(cudaMemcpyAsync(in_slot, HostView(chunk) + piece * words, words * sizeof(uint64_t), cudaMemcpyHostToDevice,
                            in_.get()),
            "cudaMemcpyAsync of a piece to the GPU");
    }
    if (write_back) traffic_.device_to_host_bytes += plan_.chunk_bytes;
    traffic_.host_to_device_bytes += plan_.chunk_bytes;
    Check(cudaEventRecord(arrived_.get(), in_.get()), "cudaEventRecord");
    ahead_ = chunk;
  }

  void TakeBack(uint64_t chunk) override {
    if (plan_.readonly) return;  // the host's own copy is as good
    CopyToHost(chunk);
    Check(cudaStreamSynchronize(stream_), "copying a chunk back");
    resident_.Remove(chunk);
    free_slots_.push_back(slot_of_chunk_[chunk]);
  }

  void FlushToHost() override {
    for (const uint64_t chunk : resident_.chunks()) CopyToHost(chunk);
    Check(cudaStreamSynchronize(stream_), "waiting for the last copies");
  }

 private:
  uint64_t* Slot(uint64_t chunk) { return static_cast<uint64_t*>(slots_[slot_of_chunk_[chunk]].get()); }

  void TakeSlot(uint64_t chunk, const ResidentSet::Outcome& outcome) {
    if (outcome.victim) {
      slot_of_chunk_[chunk] = slot_of_chunk_[*outcome.victim];
      return;
    }
    slot_of_chunk_[chunk] = free_slots_.back();
    free_slots_.pop_back();
  }

  // A program that swaps by hand knows that it has not written, and throws a clean chunk away. The driver does not.
  void CopyToHost(uint64_t chunk) {
    if (plan_.readonly) return;
    Copy(HostView(chunk), Slot(chunk), cudaMemcpyDeviceToHost);
    traffic_.device_to_host_bytes += plan_.chunk_bytes;
  }

  void Copy(void* to, const void* from, cudaMemcpyKind kind) {
    // With pageable memory an asynchronous copy is asynchronous only in name.
    if (kind_ == HostKind::kPageable) {
      Check(cudaMemcpy(to, from, plan_.chunk_bytes, kind), "cudaMemcpy of a chunk");
    } else {
      Check(cudaMemcpyAsync(to, from, plan_.chunk_bytes, kind, stream_), "cudaMemcpyAsync of a chunk");
    }
  }

  const Plan plan_;
  const cudaStream_t stream_;
  const HostKind kind_;
  ResidentSet resident_;
  std::vector<examples::DeviceMemory> slots_;
  std::vector<examples::PinnedMemory> pinned_chunks_;
  std::vector<std::unique_ptr<void, HeapFree>> heap_chunks_;
  std::vector<uint64_t> slot_of_chunk_;
  std::vector<uint64_t> free_slots_;
  double pinning_seconds_ = 0;
  examples::Stream in_;
  examples::Stream out_;
  std::vector<examples::Event> pieces_left_;
  examples::Event arrived_;
  std::optional<uint64_t> ahead_;  // the chunk that was copied ahead
};

}  // namespace

std::unique_ptr<Mode> MakeManualMode(const Plan& plan, cudaStream_t stream, HostKind kind) {
  return std::make_unique<ManualMode>(plan, stream, kind);
}

}  // namespace oversub
