#include "preload/session/out_of_memory.h"

#include <errno.h>
#include <pthread.h>
#include <sys/resource.h>

#include <atomic>

#include "driver/memory_left.h"
#include "preload/calls/cuda_api.h"
#include "preload/doors/resolve.h"
#include "record/recorder.h"

namespace uvmtrace {
namespace {

constexpr int kFlushMs = 200;
constexpr uint32_t kFirstFailures = 100;
constexpr uint64_t kLaterPeriodNs = 1'000'000'000;

constinit std::atomic<uint32_t> recorded{0};
constinit std::atomic<uint64_t> next_ns{0};

template <typename Function>
Function* Find(const char* name) {
  return reinterpret_cast<Function*>(DriverSymbol(name));
}
#define FIND(symbol) Find<decltype(symbol)>(#symbol)

bool Due(uint64_t now_ns) {
  if (recorded.load(std::memory_order_relaxed) < kFirstFailures) {
    recorded.fetch_add(1, std::memory_order_relaxed);
    return true;
  }
  uint64_t due_ns = next_ns.load(std::memory_order_relaxed);
  return now_ns >= due_ns && next_ns.compare_exchange_strong(due_ns, now_ns + kLaterPeriodNs);
}

// The device's memory and its current pool, by the thread's context. Without one nothing is known: none is made.
void AskDriver(AllocationFailureEvent* event) {
  CUdevice device = 0;
  const auto get_device = FIND(cuCtxGetDevice);
  if (get_device == nullptr || get_device(&device) != CUDA_SUCCESS) return;
  event->device = static_cast<int16_t>(device);
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  const auto get_info = FIND(cuMemGetInfo_v2);
  if (get_info != nullptr && get_info(&free_bytes, &total_bytes) == CUDA_SUCCESS) {
    event->free_bytes = free_bytes;
    event->total_bytes = total_bytes;
  }
  CUmemoryPool pool = nullptr;
  const auto get_pool = FIND(cuDeviceGetMemPool);
  const auto get_attribute = FIND(cuMemPoolGetAttribute);
  if (get_pool == nullptr || get_attribute == nullptr || get_pool(&pool, device) != CUDA_SUCCESS) return;
  cuuint64_t reserved = 0;
  cuuint64_t used = 0;
  if (get_attribute(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT, &reserved) == CUDA_SUCCESS &&
      get_attribute(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &used) == CUDA_SUCCESS) {
    event->pool_reserved_bytes = reserved;
    event->pool_used_bytes = used;
  }
}

// 0: none.
uint64_t Limit(__rlimit_resource resource) {
  rlimit limit{};
  return getrlimit(resource, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY ? limit.rlim_cur : 0;
}

}  // namespace

void RecordAllocationFailure(const ApiCallEvent& call) {
  const int host_errno = errno;
  Recorder& recorder = Recorder::Get();
  if (!Due(NowNs())) {
    recorder.CountLoss("allocation_failures", "more than 100, and more than one a second since", 1);
    errno = host_errno;
    return;
  }
  int cancel_state = PTHREAD_CANCEL_ENABLE;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
  AllocationFailureEvent event;
  event.start_ns = call.start_ns;
  event.tid = call.tid;
  event.function = call.function;
  event.result = call.result;
  event.bytes = call.bytes;
  AskDriver(&event);
  event.memory = ReadHostMemory();
  event.lock_limit_bytes = Limit(RLIMIT_MEMLOCK);
  event.address_limit_bytes = Limit(RLIMIT_AS);
  recorder.Record(event);
  recorder.Flush(kFlushMs);
  pthread_setcancelstate(cancel_state, nullptr);
  errno = host_errno;
}

void ForgetAllocationFailures() {
  recorded.store(0, std::memory_order_relaxed);
  next_ns.store(0, std::memory_order_relaxed);
}

}  // namespace uvmtrace
