// Position A of the thread (noxa): an offset table that kernels read. Eviction, fill and table update are copies in a
// stream, and nothing ever waits on the host. "table" puts them in the loop's own stream; "table-ahead" on a second
// one, while the step before still runs; "table-defrag" also moves one idle block a step to another slot, in flight.

#include "examples/common/host_clock.h"
#include "examples/common/program.h"
#include "examples/kv_remap/design.h"

namespace remap {
namespace {

using examples::Check;

class TableDesign : public Design {
 public:
  TableDesign(bool ahead, bool defragment) : ahead_(ahead), defragment_(defragment) {}

  void Prepare(const Shape& shape, const std::vector<Step>& schedule, Loop* loop) override {
    shape_ = shape;
    schedule_ = &schedule;
    loop_ = loop;
    cold_ = std::make_unique<PinnedBlocks>(shape);
    const uint32_t slots = shape.slots + (defragment_ ? 1 : 0);  // defragmentation needs somewhere to move to
    void* address = nullptr;
    Check(cudaMalloc(&address, slots * shape.block_bytes), "cudaMalloc of the slots");
    slots_.reset(address);
    Check(cudaMalloc(&address, shape.blocks * sizeof(int64_t)), "cudaMalloc of the offset table");
    table_.reset(address);
    Check(cudaMemset(address, 0xff, shape.blocks * sizeof(int64_t)), "cudaMemset of the offset table");
    // New entries are copied from here. Each update has a place of its own, because a place that is used again before
    // its copy has run would publish the wrong offset.
    size_t updates = schedule.size();
    for (const Step& step : schedule) updates += step.swaps.size();
    Check(cudaHostAlloc(&address, updates * sizeof(int64_t), cudaHostAllocDefault), "cudaHostAlloc of the updates");
    updates_.reset(address);
    slot_of_.assign(shape.blocks, kNowhere);
    for (uint32_t slot = slots; slot > 0; --slot) free_slots_.push_back(slot - 1);
    for (uint32_t step = 0; step < shape.steps; ++step) in_place_.emplace_back();
    Check(cudaDeviceSynchronize(), "preparing the offset table");
  }

  Mapping BeforeStep(uint32_t number) override {
    if (!ahead_ || number == 0) Remap(number, loop_->stream);
    if (ahead_ && number > 0) {
      Check(cudaStreamWaitEvent(loop_->stream, in_place_[number].get(), 0), "cudaStreamWaitEvent");
    }
    return {static_cast<char*>(slots_.get()), static_cast<const int64_t*>(table_.get())};
  }

  void AfterStep(uint32_t number) override {
    if (!ahead_ || number + 1 == shape_.steps) return;
    // The victims of the next step were last used before this one.
    if (number > 0) Check(cudaStreamWaitEvent(second_.get(), loop_->ends[number - 1].get(), 0), "cudaStreamWaitEvent");
    if (number == 0) Check(cudaStreamWaitEvent(second_.get(), loop_->ends[0].get(), 0), "cudaStreamWaitEvent");
    Remap(number + 1, second_.get());
    Check(cudaEventRecord(in_place_[number + 1].get(), second_.get()), "cudaEventRecord");
  }

  void Finish() override {
    Check(cudaDeviceSynchronize(), "the last step");
    for (uint32_t block = 0; block < shape_.blocks; ++block) {
      if (slot_of_[block] == kNowhere) continue;
      Check(cudaMemcpy(cold_->block(block), Slot(slot_of_[block]), shape_.block_bytes, cudaMemcpyDeviceToHost),
            "the last version of a block");
    }
  }
  const uint64_t* HostCopy(uint32_t block) override { return reinterpret_cast<const uint64_t*>(cold_->block(block)); }

 private:
  static constexpr uint32_t kNowhere = ~0u;

  char* Slot(uint32_t slot) const { return static_cast<char*>(slots_.get()) + slot * shape_.block_bytes; }

  void Remap(uint32_t number, cudaStream_t stream) {
    const double start = examples::HostSeconds();
    const Step& step = (*schedule_)[number];
    for (const Swap& swap : step.swaps) {
      if (swap.victim != Swap::kNone) {
        Copy(cold_->block(swap.victim), Slot(slot_of_[swap.victim]), cudaMemcpyDeviceToHost, stream);
        ledger_.device_to_host_bytes += shape_.block_bytes;
        free_slots_.push_back(slot_of_[swap.victim]);
        slot_of_[swap.victim] = kNowhere;
      }
      const uint32_t slot = free_slots_.back();
      free_slots_.pop_back();
      Copy(Slot(slot), cold_->block(swap.wanted), cudaMemcpyHostToDevice, stream);
      ledger_.host_to_device_bytes += shape_.block_bytes;
      Publish(swap.wanted, slot, stream);
    }
    if (defragment_) MoveOne(number, stream);
    ledger_.call_seconds += examples::HostSeconds() - start;
  }

  void Copy(void* to, const void* from, cudaMemcpyKind kind, cudaStream_t stream) {
    Check(cudaMemcpyAsync(to, from, shape_.block_bytes, kind, stream), "cudaMemcpyAsync of a block");
    ++ledger_.calls;
  }

  void Publish(uint32_t block, uint32_t slot, cudaStream_t stream) {
    slot_of_[block] = slot;
    int64_t* const update = static_cast<int64_t*>(updates_.get()) + used_updates_++;
    *update = static_cast<int64_t>(slot * shape_.block_bytes);
    Check(cudaMemcpyAsync(static_cast<int64_t*>(table_.get()) + block, update, sizeof(*update), cudaMemcpyHostToDevice,
                          stream),
          "cudaMemcpyAsync of a table entry");
    ++ledger_.calls;
  }

  // The idle block in the highest slot moves to the free one, if that is lower.
  void MoveOne(uint32_t number, cudaStream_t stream) {
    const uint32_t to = free_slots_.back();
    uint32_t chosen = kNowhere;
    for (uint32_t block = 0; block < shape_.blocks; ++block) {
      if (slot_of_[block] == kNowhere || InUse(block, number) || (number > 0 && InUse(block, number - 1))) continue;
      if (chosen == kNowhere || slot_of_[block] > slot_of_[chosen]) chosen = block;
    }
    if (chosen == kNowhere || slot_of_[chosen] < to) return;
    const uint32_t from = slot_of_[chosen];
    Copy(Slot(to), Slot(from), cudaMemcpyDeviceToDevice, stream);
    ledger_.moved_on_device_bytes += shape_.block_bytes;
    free_slots_.back() = from;
    Publish(chosen, to, stream);
  }

  bool InUse(uint32_t block, uint32_t number) const {
    for (const uint32_t needed : (*schedule_)[number].needed) {
      if (needed == block) return true;
    }
    return false;
  }

  const bool ahead_;
  const bool defragment_;
  Shape shape_;
  const std::vector<Step>* schedule_ = nullptr;
  Loop* loop_ = nullptr;
  std::unique_ptr<PinnedBlocks> cold_;
  examples::DeviceMemory slots_;
  examples::DeviceMemory table_;
  examples::PinnedMemory updates_;
  size_t used_updates_ = 0;
  std::vector<uint32_t> slot_of_;
  std::vector<uint32_t> free_slots_;
  examples::Stream second_;
  std::vector<examples::Event> in_place_;
};

}  // namespace

std::unique_ptr<Design> MakeTableDesign(bool ahead, bool defragment) {
  return std::make_unique<TableDesign>(ahead, defragment);
}

}  // namespace remap
