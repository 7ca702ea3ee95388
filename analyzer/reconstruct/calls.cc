// What calls do to the model: ranges come and go, prefetches move, advice changes policies.
#include <algorithm>

#include "analyzer/reconstruct/reconstructor.h"

namespace uvmtrace::reconstruct {

using uvm_model::kBlockBytes;
using uvm_model::kMaxDevices;
using uvm_model::kPageBytes;
using uvm_model::PageMask;
using uvm_model::Policy;

namespace {

// A prefetch call returns at once where a thread of libcuda does the work. That wakes, and does each call, in about
// this time. The times matter only where a fault comes between: it then holds or forces the call.
constexpr uint64_t kWakeNs = 90'000;
constexpr uint64_t kJobNs = 45'000;
constexpr uint64_t kNsPerKib = 70;
constexpr uint64_t kDeferredBelowNs = 15'000;
// When that work is over is not known: not before the model has done it for so long.
constexpr uint64_t kDeferredCountedNs = 100'000'000;
// Smaller managed allocations share a range of one block with others.
constexpr uint64_t kOwnRangeBytes = uint64_t{2} << 20;

uint64_t PageFloor(uint64_t address) { return address / kPageBytes * kPageBytes; }
uint64_t PageCeiling(uint64_t address) { return PageFloor(address + kPageBytes - 1); }

}  // namespace

void Reconstructor::Apply(const Call& call, uint64_t time_ns) {
  switch (call.kind) {
    case CallKind::kAllocate:
      Allocate(call);
      break;
    case CallKind::kVariable:
      if (!blocks_.InRange(call.address)) Allocate(call);
      WriteVariable(PageFloor(call.address), PageCeiling(call.address + call.bytes));
      break;
    case CallKind::kFree:
      DoPending(pending_.size(), time_ns);
      EndMigrates(time_ns);
      Free(call);
      break;
    case CallKind::kPrefetch:
      Prefetch(call, time_ns);
      break;
    case CallKind::kAdvise:
      Advise(call);
      break;
    case CallKind::kAttach:
      attached_[call.address] = call.stream;
      break;
    case CallKind::kMigrate:
      BeginMigrate(call);
      break;
  }
}

void Reconstructor::Allocate(const Call& call) {
  allocations_[call.address] = call.bytes;
  if (call.bytes >= kOwnRangeBytes) {
    blocks_.AddRange(PageFloor(call.address), PageCeiling(call.address + call.bytes));
    return;
  }
  const uint64_t base = call.address / kBlockBytes * kBlockBytes;
  std::vector<uint64_t>& sharers = slabs_[base];
  if (sharers.empty() && !blocks_.InRange(call.address)) blocks_.AddRange(base, base + kBlockBytes);
  if (std::find(sharers.begin(), sharers.end(), call.address) == sharers.end()) sharers.push_back(call.address);
}

void Reconstructor::Free(const Call& call) {
  const auto allocation = allocations_.find(call.address);
  if (allocation == allocations_.end()) return;
  const uint64_t bytes = allocation->second;
  allocations_.erase(allocation);
  attached_.erase(call.address);
  if (bytes >= kOwnRangeBytes) {
    blocks_.RemoveRange(PageFloor(call.address), PageCeiling(call.address + bytes));
    return;
  }
  // A shared range goes with the last allocation in it.
  const uint64_t base = call.address / kBlockBytes * kBlockBytes;
  const auto sharers = slabs_.find(base);
  if (sharers == slabs_.end()) return;
  std::erase(sharers->second, call.address);
  if (!sharers->second.empty()) return;
  slabs_.erase(sharers);
  blocks_.RemoveRange(base, base + kBlockBytes);
}

// The loader writes the initial value before anything is recorded, page by page: with what the driver prefetches for
// that.
void Reconstructor::WriteVariable(uint64_t address, uint64_t end) {
  for (; address < end; address += kPageBytes) {
    TrackedBlock* const block = blocks_.At(address);
    const int page = static_cast<int>((address - block->base) / kPageBytes);
    if (block->cpu_writable.Test(page)) continue;
    uvm_model::ServeCpuFault(block, page, true, {}, options_.service, &transfers_);
    transfers_.clear();
  }
}

void Reconstructor::Prefetch(const Call& call, uint64_t time_ns) {
  if (driver_calls_ || call.bytes == 0 || (call.processor != kCpu && !IsDevice(call.processor))) return;
  const uint64_t before = pending_.empty() ? time_ns + kWakeNs : pending_.back().done_ns;
  Pending pending;
  pending.done_ns = std::max(time_ns + kWakeNs, before) + kJobNs + call.bytes * kNsPerKib / 1024;
  pending.address = PageFloor(call.address);
  pending.end = PageCeiling(call.address + call.bytes);
  pending.destination = call.processor;
  pending_.push_back(pending);
  if (call.duration_ns >= kDeferredBelowNs) DoPending(pending_.size(), time_ns);
}

// Kernels name their stream by a number of the tools', calls by a handle. Both count streams in the order in which they
// were made; where there are as many of one as of the other they are the same streams. Else nothing is attached to any.
void Reconstructor::MatchStreams() {
  std::vector<uint64_t> handles;
  for (const Call& call : calls_) {
    if (call.kind != CallKind::kAttach || call.stream == 0) continue;
    if (std::find(handles.begin(), handles.end(), call.stream) == handles.end()) handles.push_back(call.stream);
  }
  std::vector<uint64_t> numbers;
  for (const KernelStart& kernel : kernels_) {
    const auto place = std::lower_bound(numbers.begin(), numbers.end(), kernel.stream);
    if (place == numbers.end() || *place != kernel.stream) numbers.insert(place, kernel.stream);
  }
  if (handles.size() != numbers.size()) return;
  for (size_t i = 0; i < handles.size(); ++i) streams_[numbers[i]] = handles[i];
}

// What is attached to the kernel's stream comes to its GPU as a whole before the kernel begins.
void Reconstructor::Apply(const KernelStart& kernel) {
  if (!IsDevice(kernel.device)) return;
  const uint64_t handle = streams_[kernel.stream];
  for (const auto& [address, stream] : attached_) {
    if (stream != handle) continue;
    const auto allocation = allocations_.find(address);
    if (allocation == allocations_.end()) continue;
    Migrate(PageFloor(address), PageCeiling(address + allocation->second), kernel.device, kernel.time_ns,
            kernel.time_ns + kDeferredCountedNs);
  }
}

void Reconstructor::Migrate(uint64_t begin, uint64_t end, int32_t destination, uint64_t time_ns, uint64_t done_ns) {
  blocks_.ForEach(begin, end, [&](TrackedBlock* block, const PageMask& pages) {
    uvm_model::MigratePages(block, destination, pages, &transfers_);
    Moved(block, time_ns, done_ns, 0);
    if (destination != kCpu) Brought(block, destination, pages, time_ns, done_ns);
  });
}

void Reconstructor::DoPending(size_t count, uint64_t time_ns) {
  for (size_t i = 0; i < count; ++i) {
    Migrate(pending_[i].address, pending_[i].end, pending_[i].destination, time_ns, time_ns + kDeferredCountedNs);
  }
  pending_.erase(pending_.begin(), pending_.begin() + static_cast<std::ptrdiff_t>(count));
}

// Does as much of the deferred prefetches as the age of the calls says, or as this fault proves: a processor does not
// fault on what it can access.
void Reconstructor::CatchUp(TrackedBlock* block, const PageMask& faulted, int32_t faulter, uint64_t time_ns) {
  if (driver_calls_) return CatchUpMigrates(block, faulted, faulter, time_ns);
  if (pending_.empty()) return;
  PageMask reachable = faulter == kCpu ? block->cpu_readable : block->devices[faulter].readable;
  size_t old = 0;
  size_t earlier = pending_.size() + 1;
  size_t later = pending_.size() + 1;
  for (const Pending& call : pending_) old += time_ns > call.done_ns ? 1 : 0;
  for (size_t done = 0; done <= pending_.size(); ++done) {
    if (done > 0) {
      const Pending& call = pending_[done - 1];
      const uint64_t begin = std::max(call.address, block->Begin());
      const uint64_t end = std::min(call.end, block->End());
      if (begin < end) {
        const PageMask pages = PageMask::Range(static_cast<int>((begin - block->base) / kPageBytes),
                                               static_cast<int>((end - begin) / kPageBytes));
        if (call.destination == faulter) {
          reachable |= pages;
        } else {
          reachable -= pages;
        }
      }
    }
    if ((faulted - reachable).Empty()) continue;
    if (done < old) earlier = done;
    if (done >= old && later > pending_.size()) later = done;
  }
  DoPending(later <= pending_.size() ? later : earlier <= pending_.size() ? earlier : old, time_ns);
}

void Reconstructor::Advise(const Call& call) {
  const uint64_t begin = PageFloor(call.address);
  const uint64_t end = PageCeiling(call.address + call.bytes);
  const int processor = call.processor;
  if (processor != kCpu && !IsDevice(processor)) return;
  const auto nothing = [](TrackedBlock*) {};
  switch (call.advice) {
    case Advice::kSetReadMostly:
      blocks_.ChangePolicy(
          begin, end, [](const Policy& policy) { return !policy.read_mostly; },
          [](Policy* policy) { policy->read_mostly = true; }, [](TrackedBlock* block) { EnterReadMostly(block); });
      break;
    case Advice::kUnsetReadMostly:
      blocks_.ChangePolicy(
          begin, end, [](const Policy& policy) { return policy.read_mostly; },
          [](Policy* policy) { policy->read_mostly = false; }, [](TrackedBlock* block) { LeaveReadMostly(block); });
      break;
    case Advice::kSetPreferredLocation:
      blocks_.ChangePolicy(
          begin, end, [processor](const Policy& policy) { return policy.preferred != processor; },
          [processor](Policy* policy) { policy->preferred = static_cast<int8_t>(processor); },
          [processor](TrackedBlock* block) { UnmapRemotePages(block, processor); });
      break;
    case Advice::kUnsetPreferredLocation:
      blocks_.ChangePolicy(
          begin, end, [](const Policy& policy) { return policy.preferred != uvm_model::kNoProcessor; },
          [](Policy* policy) { policy->preferred = uvm_model::kNoProcessor; }, nothing);
      break;
    case Advice::kSetAccessedBy:
      blocks_.ChangePolicy(
          begin, end, [processor](const Policy& policy) { return !policy.AccessedBy(processor); },
          [processor](Policy* policy) { policy->SetAccessedBy(processor, true); },
          [processor](TrackedBlock* block) {
            if (processor != kCpu) MapAccessedByDevice(block, processor);
          });
      break;
    case Advice::kUnsetAccessedBy:
      blocks_.ChangePolicy(
          begin, end, [processor](const Policy& policy) { return policy.AccessedBy(processor); },
          [processor](Policy* policy) { policy->SetAccessedBy(processor, false); }, nothing);
      break;
  }
}

}  // namespace uvmtrace::reconstruct
