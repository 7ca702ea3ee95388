#include "preload/calls/managed_variables.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>

#include "preload/apply/apply.h"
#include "preload/base/hooked_thread.h"
#include "preload/calls/hook.h"
#include "preload/doors/resolve.h"
#include "preload/session/audit.h"
#include "preload/session/devices.h"
#include "preload/session/host_memory.h"
#include "preload/session/managed_memory.h"
#include "preload/session/session.h"

namespace uvmtrace {

namespace {

constinit std::atomic<uint64_t> registered{0};

// A variable of the program's or of a library's: where its address stands once its module is loaded.
struct Variable {
  std::atomic<void**> shadow{nullptr};
  void** fat_binary;
  size_t bytes;
  const char* name;  // in the library that registered it
};
constexpr size_t kNameBytes = 256;
constexpr size_t kVariables = 1024;
constinit Variable variables[kVariables];

// The library that registered a variable may have been closed since, with its shadow.
void* ReadShadow(void** shadow) {
  void* address = nullptr;
  const iovec local{&address, sizeof(address)};
  const iovec remote{shadow, sizeof(address)};
  return syscall(SYS_process_vm_readv, getpid(), &local, 1, &remote, 1, 0) == sizeof(address) ? address : nullptr;
}

// The name that a library registered. Empty: the library has been closed since.
void ReadName(const char* name, char (&text)[kNameBytes]) {
  text[0] = '\0';
  if (name == nullptr) return;
  // Not past the end of the page at once: the next one may not be there.
  size_t have = 0;
  while (have < kNameBytes - 1) {
    const uint64_t at = Word(name) + have;
    const size_t bytes = std::min<size_t>(kNameBytes - 1 - have, 4096 - at % 4096);
    const iovec local{text + have, bytes};
    const iovec remote{const_cast<char*>(name) + have, bytes};
    const long got = syscall(SYS_process_vm_readv, getpid(), &local, 1, &remote, 1, 0);
    if (got <= 0) break;
    have += static_cast<size_t>(got);
    if (memchr(text, '\0', have) != nullptr) return;
  }
  text[have] = '\0';
}

void ModuleLoaded(void** fat_binary) {
  const uint64_t count = registered.load(std::memory_order_acquire);
  if (count > kVariables) {
    Recorder::Get().CountLoss("managed_variables", "more than 1024 are registered: the rest have no allocation",
                              count - kVariables);
  }
  for (size_t i = 0; i < std::min<uint64_t>(count, kVariables); ++i) {
    const Variable& variable = variables[i];
    void** const shadow = variable.shadow.load(std::memory_order_acquire);
    if (shadow == nullptr || variable.fat_binary != fat_binary) continue;
    char name[kNameBytes];
    ReadName(variable.name, name);
    GlobalFound(Word(ReadShadow(shadow)), variable.bytes, name[0] != '\0' ? name : nullptr,
                {kNoFunction, Door::kRuntimeSymbol});
  }
}

// Stands in the table of managed memory for memory whose addresses are not known: no allocation lives there.
constexpr uint64_t kSomewhere = 0x100;

}  // namespace

void ContextCreated() { sources_wanted.store(true, std::memory_order_relaxed); }

void StartWantedSources() {
  if (!sources_wanted.exchange(false, std::memory_order_relaxed)) return;
  EnsureSampler();
  if (KernelSourcesWanted()) EnsureKernelSources();
  if (registered.load(std::memory_order_relaxed) == 0 && !PageableMemoryAccess() && !AuditWanted()) return;
  EnsureManagedSources();
  if (registered.load(std::memory_order_relaxed) != 0 || PageableMemoryAccess()) ManagedMemoryAllocated(kSomewhere, 0);
}

void GlobalFound(uint64_t address, uint64_t bytes, const char* name, const CallSite& call) {
  if (managed_memory.Contains(address) || !IsManagedAddress(address)) return;
  if (bytes == 0) bytes = AllocatedBytes(address);
  // Its registration knows the size, and comes when the module is loaded.
  if (bytes == 0 && registered.load(std::memory_order_relaxed) != 0) return;
  EnsureManagedSources();
  ManagedMemoryAllocated(address, bytes);
  ApiCallEvent event;
  event.start_ns = NowNs();
  event.address = address;
  event.bytes = bytes;
  event.memory_kind = MemoryKind::kManaged;
  event.driver_function = call.function;
  event.door = call.door;
  if (name != nullptr) Recorder::Get().DefineManagedVariable({name, strnlen(name, kNameBytes)}, address, bytes);
  RecordCall(&event, kFunction_ManagedVariable, true);
  if (ApplyActive() && name != nullptr) ApplyAtVariable({name, strnlen(name, kNameBytes)}, address, bytes);
}

namespace {

// Called from constructors of the program and of its libraries. Nothing but a count: the program may never use CUDA.
template <Way kWay>
void RegisterManagedVariable(void** fat_binary, void** shadow, char* device_address, const char* name, int external,
                             size_t bytes, int constant, int global) {
  const int host_errno = errno;
  const uint64_t index = registered.fetch_add(1, std::memory_order_acq_rel);
  if (index < kVariables) {
    variables[index].fat_binary = fat_binary;
    variables[index].bytes = bytes;
    variables[index].name = name;
    variables[index].shadow.store(shadow, std::memory_order_release);
  }
  // A library that is loaded when the program has its context already.
  if (SessionRunning() && DriverSeen()) sources_wanted.store(true, std::memory_order_relaxed);
  errno = host_errno;
  const auto real = reinterpret_cast<decltype(&RegisterManagedVariable<kWay>)>(
      targets[static_cast<int>(kWay)][kFunction_RegisterManagedVariable].load(std::memory_order_relaxed));
  real(fat_binary, shadow, device_address, name, external, bytes, constant, global);
}

// What every function that names such a variable calls once, before it touches it.
template <Way kWay>
char InitModule(void** fat_binary) {
  const auto real = reinterpret_cast<decltype(&InitModule<kWay>)>(
      targets[static_cast<int>(kWay)][kFunction_InitModule].load(std::memory_order_relaxed));
  const char result = real(fat_binary);
  if (SessionRunning() && hooked_thread.depth == 0) {
    const InternalWork internal;
    ModuleLoaded(fat_binary);
  }
  return result;
}

}  // namespace

void* ManagedVariableHook(FunctionId id, Way way) {
  const bool second = way == Way::kSecond;
  if (id == kFunction_RegisterManagedVariable) {
    return reinterpret_cast<void*>(second ? &RegisterManagedVariable<Way::kSecond>
                                          : &RegisterManagedVariable<Way::kSymbol>);
  }
  if (id != kFunction_InitModule) return nullptr;
  return reinterpret_cast<void*>(second ? &InitModule<Way::kSecond> : &InitModule<Way::kSymbol>);
}

}  // namespace uvmtrace
