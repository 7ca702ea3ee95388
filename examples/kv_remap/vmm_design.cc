// Position B of the thread (ivanium, kvcached): the kernels see one range of addresses, and physical memory is mapped
// under the blocks that are needed. The calls are expensive on the host. "vmm-inline" makes them between two steps;
// "vmm-background" gives them to a thread that works one step ahead.
#include <cuda.h>

#include <condition_variable>
#include <mutex>
#include <thread>

#include "examples/common/host_clock.h"
#include "examples/common/program.h"
#include "examples/common/virtual_memory.h"
#include "examples/kv_remap/design.h"

namespace remap {
namespace {

using examples::Check;

class VmmDesign : public Design {
 public:
  explicit VmmDesign(bool background) : background_(background) {}
  ~VmmDesign() override {
    if (worker_.joinable()) {
      AfterStep(shape_.steps);  // the loop may have ended early, by an exception
      worker_.join();
    }
    for (uint32_t block = 0; block < shape_.blocks; ++block) {
      if (!handles_.empty() && handles_[block] != 0)
        memory_.Unmap(range_ + block * shape_.block_bytes, shape_.block_bytes);
    }
    for (const auto handle : free_handles_) memory_.Release(handle);
    for (const auto handle : handles_) {
      if (handle != 0) memory_.Release(handle);
    }
    if (range_ != 0) memory_.FreeRange(range_, shape_.blocks * shape_.block_bytes);
  }

  void Prepare(const Shape& shape, const std::vector<Step>& schedule, Loop* loop) override {
    shape_ = shape;
    schedule_ = &schedule;
    loop_ = loop;
    cold_ = std::make_unique<PinnedBlocks>(shape);
    range_ = memory_.ReserveRange(shape.blocks * shape.block_bytes);
    handles_.assign(shape.blocks, 0);
    for (uint32_t slot = 0; slot < shape.slots; ++slot) free_handles_.push_back(memory_.Create(shape.block_bytes));
    for (uint32_t step = 0; step < shape.steps; ++step) in_place_.emplace_back();
    if (background_) worker_ = std::thread([this] { Work(); });
  }

  Mapping BeforeStep(uint32_t number) override {
    if (background_) {
      std::unique_lock<std::mutex> lock(mutex_);
      if (steps_in_place_ <= number && failure_.empty()) ++ledger_.host_waits;
      changed_.wait(lock, [&] { return steps_in_place_ > number || !failure_.empty(); });
      if (!failure_.empty()) throw examples::CudaError(failure_);
      Check(cudaStreamWaitEvent(loop_->stream, in_place_[number].get(), 0), "cudaStreamWaitEvent");
    } else if (!(*schedule_)[number].swaps.empty()) {
      Remap(number, loop_->stream);
    }
    return {reinterpret_cast<char*>(range_), nullptr};
  }

  void AfterStep(uint32_t number) override {
    if (!background_) return;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      steps_enqueued_ = number + 1;
    }
    changed_.notify_all();
  }

  void Finish() override {
    if (worker_.joinable()) worker_.join();
    Check(cudaDeviceSynchronize(), "the last step");
    for (uint32_t block = 0; block < shape_.blocks; ++block) {
      if (handles_[block] == 0) continue;
      Check(cudaMemcpy(cold_->block(block), Device(block), shape_.block_bytes, cudaMemcpyDeviceToHost),
            "the last version of a block");
    }
  }
  const uint64_t* HostCopy(uint32_t block) override { return reinterpret_cast<const uint64_t*>(cold_->block(block)); }

 private:
  void* Device(uint32_t block) const { return reinterpret_cast<void*>(range_ + block * shape_.block_bytes); }

  // The background thread: step after step, as soon as the victims are idle.
  void Work() {
    try {
      Check(cudaSetDevice(0), "cudaSetDevice");
      for (uint32_t number = 0; number < shape_.steps; ++number) {
        if (number > 1) {
          // The victims were last used two steps before; that step must have been enqueued, and must be over.
          std::unique_lock<std::mutex> lock(mutex_);
          changed_.wait(lock, [&] { return steps_enqueued_ >= number - 1; });
          lock.unlock();
          Check(cudaEventSynchronize(loop_->ends[number - 2].get()), "waiting for the step that used the victims");
        }
        Remap(number, second_.get());
        Check(cudaEventRecord(in_place_[number].get(), second_.get()), "cudaEventRecord");
        {
          const std::lock_guard<std::mutex> lock(mutex_);
          steps_in_place_ = number + 1;
        }
        changed_.notify_all();
      }
    } catch (const std::exception& error) {
      const std::lock_guard<std::mutex> lock(mutex_);
      failure_ = error.what();
      changed_.notify_all();
    }
  }

  // The victims' bytes must be on the host before their memory is unmapped, so here somebody has to wait.
  void Remap(uint32_t number, cudaStream_t stream) {
    const Step& step = (*schedule_)[number];
    bool copied = false;
    for (const Swap& swap : step.swaps) {
      if (swap.victim == Swap::kNone) continue;
      Check(cudaMemcpyAsync(cold_->block(swap.victim), Device(swap.victim), shape_.block_bytes, cudaMemcpyDeviceToHost,
                            stream),
            "cudaMemcpyAsync of a victim");
      ledger_.device_to_host_bytes += shape_.block_bytes;
      copied = true;
    }
    if (copied) {
      Check(cudaStreamSynchronize(stream), "waiting for the victims' copies");
      if (!background_) ++ledger_.host_waits;
    }
    const double start = examples::HostSeconds();
    for (const Swap& swap : step.swaps) {
      if (swap.victim != Swap::kNone) {
        memory_.Unmap(range_ + swap.victim * shape_.block_bytes, shape_.block_bytes);
        free_handles_.push_back(handles_[swap.victim]);
        handles_[swap.victim] = 0;
        ++ledger_.calls;
      }
      handles_[swap.wanted] = free_handles_.back();
      free_handles_.pop_back();
      memory_.Map(range_ + swap.wanted * shape_.block_bytes, shape_.block_bytes, handles_[swap.wanted]);
      ledger_.calls += 2;  // map, and set access
    }
    ledger_.call_seconds += examples::HostSeconds() - start;
    for (const Swap& swap : step.swaps) {
      Check(cudaMemcpyAsync(Device(swap.wanted), cold_->block(swap.wanted), shape_.block_bytes, cudaMemcpyHostToDevice,
                            stream),
            "cudaMemcpyAsync of a wanted block");
      ledger_.host_to_device_bytes += shape_.block_bytes;
    }
  }

  const bool background_;
  const examples::VirtualMemory memory_;
  Shape shape_;
  const std::vector<Step>* schedule_ = nullptr;
  Loop* loop_ = nullptr;
  std::unique_ptr<PinnedBlocks> cold_;
  uint64_t range_ = 0;
  std::vector<examples::VirtualMemory::Handle> handles_;  // under each block; 0: none
  std::vector<examples::VirtualMemory::Handle> free_handles_;
  examples::Stream second_;
  std::vector<examples::Event> in_place_;

  std::thread worker_;
  std::mutex mutex_;
  std::condition_variable changed_;
  uint32_t steps_enqueued_ = 0;  // by the loop
  uint32_t steps_in_place_ = 0;  // by the background thread
  std::string failure_;
};

}  // namespace

std::unique_ptr<Design> MakeVmmDesign(bool background) { return std::make_unique<VmmDesign>(background); }

}  // namespace remap
