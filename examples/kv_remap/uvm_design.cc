// Unified memory: the addresses never change and the driver keeps the map. While a step runs, the victims of the next
// one are prefetched to the CPU and its blocks to the GPU, on a second stream.

#include "examples/common/host_clock.h"
#include "examples/common/program.h"
#include "examples/kv_remap/design.h"

namespace remap {
namespace {

using examples::Check;

class UvmDesign : public Design {
 public:
  void Prepare(const Shape& shape, const std::vector<Step>& schedule, Loop* loop) override {
    shape_ = shape;
    schedule_ = &schedule;
    loop_ = loop;
    void* address = nullptr;
    Check(cudaMallocManaged(&address, shape.blocks * shape.block_bytes, cudaMemAttachGlobal),
          "cudaMallocManaged of the blocks");
    blocks_.reset(address);
    for (uint32_t block = 0; block < shape.blocks; ++block) FillBlock(Block(block), block, shape.block_bytes);
    for (uint32_t step = 0; step < shape.steps; ++step) in_place_.emplace_back();
  }

  Mapping BeforeStep(uint32_t number) override {
    if (number == 0) Move(0);
    Check(cudaStreamWaitEvent(loop_->stream, in_place_[number].get(), 0), "cudaStreamWaitEvent");
    return {Block(0), nullptr};
  }

  void AfterStep(uint32_t number) override {
    if (number + 1 == shape_.steps) return;
    // The victims of the next step were last used before this one.
    const uint32_t last_use = number > 0 ? number - 1 : 0;
    Check(cudaStreamWaitEvent(second_.get(), loop_->ends[last_use].get(), 0), "cudaStreamWaitEvent");
    Move(number + 1);
  }

  void Finish() override { Check(cudaDeviceSynchronize(), "the last step"); }

  // The host's page faults bring back what is still on the GPU.
  const uint64_t* HostCopy(uint32_t block) override {
    if (on_gpu_.size() == shape_.blocks && on_gpu_[block]) ledger_.device_to_host_bytes += shape_.block_bytes;
    return reinterpret_cast<const uint64_t*>(Block(block));
  }

 private:
  char* Block(uint32_t block) const { return static_cast<char*>(blocks_.get()) + block * shape_.block_bytes; }

  void Move(uint32_t number) {
    const double start = examples::HostSeconds();
    on_gpu_.resize(shape_.blocks);
    for (const Swap& swap : (*schedule_)[number].swaps) {
      if (swap.victim != Swap::kNone) {
        examples::Prefetch(Block(swap.victim), shape_.block_bytes, examples::kHost, second_.get());
        ledger_.device_to_host_bytes += shape_.block_bytes;
        on_gpu_[swap.victim] = false;
        ++ledger_.calls;
      }
      examples::Prefetch(Block(swap.wanted), shape_.block_bytes, /*device=*/0, second_.get());
      ledger_.host_to_device_bytes += shape_.block_bytes;
      on_gpu_[swap.wanted] = true;
      ++ledger_.calls;
    }
    ledger_.call_seconds += examples::HostSeconds() - start;
    Check(cudaEventRecord(in_place_[number].get(), second_.get()), "cudaEventRecord");
  }

  Shape shape_;
  const std::vector<Step>* schedule_ = nullptr;
  Loop* loop_ = nullptr;
  examples::ManagedMemory blocks_;
  examples::Stream second_;
  std::vector<examples::Event> in_place_;
  std::vector<bool> on_gpu_;
};

}  // namespace

std::unique_ptr<Design> MakeUvmDesign() { return std::make_unique<UvmDesign>(); }

}  // namespace remap
