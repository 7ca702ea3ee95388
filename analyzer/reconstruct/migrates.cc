// The driver's own calls of UVM_MIGRATE: when each prefetch was done. Where a trace has them, prefetch calls move
// nothing.
//
// A call goes from block to block, and faults come while it runs. Which blocks it has done by then is not recorded, but
// the faults say much: a processor does not fault on what it can access. So a block is done when a fault on it shows
// that it must have been, and all others at the end of the call, told with the time that their place in it suggests.
#include <algorithm>

#include "analyzer/reconstruct/reconstructor.h"

namespace uvmtrace::reconstruct {

using uvm_model::kPageBytes;
using uvm_model::PageMask;

namespace {

// Until the driver has counted what a call moved: it may leave its last copies behind.
constexpr uint64_t kCountedNs = 1'000'000;

}  // namespace

void Reconstructor::BeginMigrate(const Call& call) {
  Running running;
  running.begin = call.address / kPageBytes * kPageBytes;
  running.end = (call.address + call.bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
  if (running.end <= running.begin || (call.processor != kCpu && !IsDevice(call.processor))) return;
  running.destination = call.processor;
  running.begin_ns = call.time_ns;
  running.end_ns = call.time_ns + call.duration_ns;
  running_.push_back(running);
}

uint64_t Reconstructor::Running::DoneAt(uint64_t address) const {
  const double share = static_cast<double>(address - begin) / static_cast<double>(end - begin);
  return begin_ns + static_cast<uint64_t>(share * static_cast<double>(end_ns - begin_ns));
}

void Reconstructor::DoBlock(Running* call, TrackedBlock* block, const PageMask& pages, uint64_t time_ns) {
  call->done.push_back(block->Begin());
  uvm_model::MigratePages(block, call->destination, pages, &transfers_);
  Moved(block, time_ns, time_ns + kCountedNs, 0);
  if (call->destination != kCpu) Brought(block, call->destination, pages, time_ns, time_ns + kCountedNs);
}

bool Reconstructor::Running::IsDone(const TrackedBlock& block) const {
  return std::find(done.begin(), done.end(), block.Begin()) != done.end();
}

// Does what is left of the calls that were over by then.
void Reconstructor::EndMigrates(uint64_t time_ns) {
  while (!running_.empty()) {
    const auto first = std::min_element(running_.begin(), running_.end(),
                                        [](const Running& a, const Running& b) { return a.end_ns < b.end_ns; });
    if (first->end_ns > time_ns) return;
    Running call = std::move(*first);
    running_.erase(first);
    std::vector<uint64_t> done = std::move(call.done);
    std::sort(done.begin(), done.end());
    blocks_.ForEach(call.begin, call.end, [&](TrackedBlock* block, const PageMask& pages) {
      if (std::binary_search(done.begin(), done.end(), block->Begin())) return;
      DoBlock(&call, block, pages, call.DoneAt(std::min(block->End(), call.end)));
    });
  }
}

// Does what calls that run had done to this block before the fault.
void Reconstructor::CatchUpMigrates(TrackedBlock* block, const PageMask& faulted, int32_t faulter, uint64_t time_ns) {
  for (Running& call : running_) {
    const uint64_t begin = std::max(call.begin, block->Begin());
    const uint64_t end = std::min(call.end, block->End());
    // What brings the pages to the faulter has not been here yet.
    if (begin >= end || call.destination == faulter || call.IsDone(*block)) continue;
    const PageMask& reachable = faulter == kCpu ? block->cpu_readable : block->devices[faulter].readable;
    const uint64_t due_ns = call.DoneAt(end);
    if (due_ns > time_ns && !(faulted - reachable).Empty()) continue;
    const PageMask pages = PageMask::Range(static_cast<int>((begin - block->base) / kPageBytes),
                                           static_cast<int>((end - begin) / kPageBytes));
    DoBlock(&call, block, pages, std::min(due_ns, time_ns));
  }
}

}  // namespace uvmtrace::reconstruct
