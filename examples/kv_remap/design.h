// A design is one way to give a block that a step needs a place on the GPU. All are driven through this interface.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "examples/common/managed_memory.h"
#include "examples/common/phase.h"
#include "examples/kv_remap/use_kernel.h"

namespace remap {

struct Ledger {
  uint64_t host_to_device_bytes = 0;
  uint64_t device_to_host_bytes = 0;
  uint64_t moved_on_device_bytes = 0;  // by defragmentation
  uint64_t host_waits = 0;             // times that the decoding thread waited for the GPU or another thread
  uint64_t calls = 0;                  // CUDA calls for swaps, and their time on whichever thread made them
  double call_seconds = 0;
};

// The loop's stream, and the event at the end of each step on it.
struct Loop {
  cudaStream_t stream = nullptr;
  std::vector<examples::Event> ends;
};

class Design {
 public:
  virtual ~Design() = default;

  // Before the timers: memory, and every block in its place on the host.
  virtual void Prepare(const Shape& shape, const std::vector<Step>& schedule, Loop* loop) = 0;

  // Before step `number` is enqueued: its blocks must be in place by then, in the order of the loop's stream.
  virtual Mapping BeforeStep(uint32_t number) = 0;

  // Step `number` and its end event are enqueued.
  virtual void AfterStep(uint32_t number) { (void)number; }

  // After the last step: all blocks are on the host again; where block b is.
  virtual void Finish() = 0;
  virtual const uint64_t* HostCopy(uint32_t block) = 0;

  const Ledger& ledger() const { return ledger_; }

 protected:
  Ledger ledger_;
};

struct DesignInfo {
  const char* name;
  bool managed;
  bool needs_pages;  // blocks must be multiples of the driver's granularity, 2 MiB
  std::unique_ptr<Design> (*make)();
};
const std::vector<DesignInfo>& Designs();

std::unique_ptr<Design> MakeTableDesign(bool ahead, bool defragment);
std::unique_ptr<Design> MakeVmmDesign(bool background);
std::unique_ptr<Design> MakeUvmDesign();

// The cold store: every block has a place in page-locked host memory.
class PinnedBlocks {
 public:
  explicit PinnedBlocks(const Shape& shape);
  char* block(uint32_t number) const { return static_cast<char*>(memory_.get()) + number * block_bytes_; }

 private:
  uint64_t block_bytes_;
  examples::PinnedMemory memory_;
};

// Version 0 of a block, by the host.
void FillBlock(void* memory, uint32_t block, uint64_t block_bytes);

}  // namespace remap
