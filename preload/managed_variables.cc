#include "preload/managed_variables.h"

#include <errno.h>

#include "preload/devices.h"
#include "preload/hook.h"
#include "preload/managed_memory.h"
#include "preload/resolve.h"
#include "preload/session.h"

namespace uvmtrace {

constinit std::atomic<bool> sources_wanted{false};

namespace {

constinit std::atomic<uint64_t> registered{0};

// Stands in the table of managed memory for memory whose addresses are not known: no allocation lives there.
constexpr uint64_t kSomewhere = 0x100;

}  // namespace

bool IsManagedAddress(uint64_t address) {
  const auto get = reinterpret_cast<decltype(&cuPointerGetAttribute)>(DriverSymbol("cuPointerGetAttribute"));
  unsigned managed = 0;
  return address != 0 && get != nullptr && get(&managed, CU_POINTER_ATTRIBUTE_IS_MANAGED, address) == CUDA_SUCCESS &&
         managed != 0;
}

void ContextCreated() {
  if (registered.load(std::memory_order_relaxed) != 0 || PageableMemoryAccess() || AuditWanted()) {
    sources_wanted.store(true, std::memory_order_relaxed);
  }
}

void StartWantedSources() {
  if (!sources_wanted.exchange(false, std::memory_order_relaxed)) return;
  EnsureManagedSources();
  if (registered.load(std::memory_order_relaxed) != 0 || PageableMemoryAccess()) ManagedMemoryAllocated(kSomewhere, 0);
}

void GlobalFound(uint64_t address, uint64_t bytes, const CallSite& call) {
  if (managed_memory.Contains(address) || !IsManagedAddress(address)) return;
  if (bytes == 0) bytes = AllocatedBytes(address);
  EnsureManagedSources();
  ManagedMemoryAllocated(address, bytes);
  ApiCallEvent event;
  event.start_ns = NowNs();
  event.address = address;
  event.bytes = bytes;
  event.memory_kind = MemoryKind::kManaged;
  event.driver_function = call.function;
  event.door = call.door;
  RecordCall(&event, kFunction_ManagedVariable, true);
}

}  // namespace uvmtrace

// Called from constructors of the program and of its libraries. Nothing but a count: the program may never use CUDA.
extern "C" __attribute__((visibility("default"))) void UvmtraceRegisterManagedVar(
    void** fat_binary, void** shadow, char* device_address, const char* name, int external, size_t bytes, int constant,
    int global) asm("__cudaRegisterManagedVar");

void UvmtraceRegisterManagedVar(void** fat_binary, void** shadow, char* device_address, const char* name, int external,
                                size_t bytes, int constant, int global) {
  using namespace uvmtrace;
  const int host_errno = errno;
  registered.fetch_add(1, std::memory_order_relaxed);
  // A library that is loaded when the program has its context already.
  if (SessionRunning() && DriverSeen()) sources_wanted.store(true, std::memory_order_relaxed);
  const auto real = reinterpret_cast<decltype(&UvmtraceRegisterManagedVar)>(
      RuntimeSymbolFor(__builtin_return_address(0), "__cudaRegisterManagedVar"));
  errno = host_errno;
  if (real != nullptr) real(fat_binary, shadow, device_address, name, external, bytes, constant, global);
}
