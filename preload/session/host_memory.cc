#include "preload/session/host_memory.h"

#include <atomic>

#include "preload/session/devices.h"
#include "preload/session/session.h"
#include "preload/session/sources.h"

namespace uvmtrace {
namespace {

// Every program has a few pages of staging buffers.
constexpr uint64_t kLinksFromBytes = uint64_t{8} << 20;
constexpr uint64_t kKernelsFromBytes = uint64_t{64} << 20;

// Sizes are not known when memory is freed: what has been allocated counts until nothing is left.
constinit std::atomic<int64_t> live{0};
constinit std::atomic<uint64_t> allocated_bytes{0};
constinit std::atomic<bool> advised{false};
constinit std::atomic<bool> kernels_wanted{false};

void Allocated(uint64_t bytes) {
  live.fetch_add(1, std::memory_order_relaxed);
  const uint64_t total = allocated_bytes.fetch_add(bytes, std::memory_order_relaxed) + bytes;
  if (total >= kLinksFromBytes) SetHostMemoryLive(true);
  if (total >= kKernelsFromBytes && !kernels_wanted.exchange(true, std::memory_order_relaxed)) {
    sources_wanted.store(true, std::memory_order_relaxed);
  }
}

void Freed() {
  if (live.fetch_sub(1, std::memory_order_relaxed) > 1) return;
  allocated_bytes.store(0, std::memory_order_relaxed);
  SetHostMemoryLive(advised.load(std::memory_order_relaxed));
}

}  // namespace

void SeeHostMemory(const ApiCallEvent& call, FunctionId id) {
  if (call.memory_kind == MemoryKind::kPinned || call.memory_kind == MemoryKind::kRegistered) {
    return Allocated(call.bytes);
  }
  switch (id) {
    case kFunction_cudaFreeHost:
    case kFunction_cudaHostUnregister:
    case kFunction_cuMemFreeHost:
    case kFunction_cuMemHostUnregister:
      return Freed();
    case kFunction_cudaMemAdvise:
    case kFunction_cuMemAdvise_v2:
    case kFunction_cuMemAdvise:
      // 3: preferred location, 5: accessed by. Both may map memory over the link.
      if ((call.flags == 3 || call.flags == 5) && !advised.exchange(true, std::memory_order_relaxed)) {
        SetHostMemoryLive(true);
      }
      return;
    default:
      return;
  }
}

bool KernelSourcesWanted() { return kernels_wanted.load(std::memory_order_relaxed); }

void ForgetHostMemory() {
  live.store(0, std::memory_order_relaxed);
  allocated_bytes.store(0, std::memory_order_relaxed);
  advised.store(false, std::memory_order_relaxed);
  kernels_wanted.store(false, std::memory_order_relaxed);
}

}  // namespace uvmtrace
