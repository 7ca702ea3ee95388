// cuGetProcAddress, by which the runtime library finds all but one of the driver's functions, and the private tables.
#include <cstring>

#include "sim/libcuda/api.h"

using uvmsim::Engine;
using uvmsim::EngineTotals;

extern "C" {
__attribute__((visibility("default"))) extern const uvmsim::CuptiTable uvmsim_cupti_table;
__attribute__((visibility("default"))) extern const uvmsim::SynchronizationTable uvmsim_synchronization_table;
}

namespace {

struct EntryPoint {
  const char* name;
  int version;
  void* function;
  void* per_thread_function;
};

// NOLINTBEGIN(bugprone-macro-parentheses): names, not expressions
const EntryPoint kEntryPoints[] = {
#define ENTRY(name, version, function, per_thread) \
  {#name, version, reinterpret_cast<void*>(&function), reinterpret_cast<void*>(&per_thread)},
#include "sim/libcuda/entry_points.inc"
#undef ENTRY
};
// NOLINTEND(bugprone-macro-parentheses)

// The newest function of that name that a program written for `version` expects.
CUresult Find(const char* symbol, void** function, int version, cuuint64_t flags,
              CUdriverProcAddressQueryResult* status) {
  if (function == nullptr || symbol == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const EntryPoint* newest = nullptr;
  bool known = false;
  for (const EntryPoint& entry : kEntryPoints) {
    if (strcmp(entry.name, symbol) != 0) continue;
    known = true;
    if (entry.version <= version && (newest == nullptr || entry.version > newest->version)) newest = &entry;
  }
  if (newest == nullptr) {
    if (status != nullptr) {
      *status = known ? CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
    }
    *function = nullptr;
    return CUDA_ERROR_NOT_FOUND;
  }
  *function =
      (flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM) != 0 ? newest->per_thread_function : newest->function;
  if (status != nullptr) *status = CU_GET_PROC_ADDRESS_SUCCESS;
  return CUDA_SUCCESS;
}

const uvmsim::RuntimeTable kRuntimeTable = {
    // create_function
    [](const char* name, UvmsimKernelModel model) -> CUfunction {
      Engine* engine = Engine::Get();
      return engine == nullptr ? nullptr : reinterpret_cast<CUfunction>(engine->CreateFunction(name, model));
    },
    // access
    [](const UvmsimLaunch* launch, const void* address, size_t bytes, int access) -> void* {
      return static_cast<Engine*>(launch->engine)->KernelAccess(address, bytes, access);
    },
    // allocate_variable
    [](size_t bytes, bool managed) -> void* {
      uint64_t address = 0;
      Engine* engine = Engine::Get();
      if (engine == nullptr) return nullptr;
      const CUresult result = managed ? engine->AllocateManaged(bytes, CU_MEM_ATTACH_GLOBAL, &address)
                                      : engine->AllocateDevice(uvmsim::CurrentDevice(), bytes, &address);
      return result == CUDA_SUCCESS ? reinterpret_cast<void*>(address) : nullptr;
    },
    // compute
    [](const UvmsimLaunch* launch, double ns) { static_cast<Engine*>(launch->engine)->KernelComputes(ns); },
    // now
    []() -> double {
      Engine* engine = Engine::Get();
      return engine == nullptr ? 0 : engine->clock().HostNow();
    },
};

}  // namespace

extern "C" {

const uvmsim::CuptiTable uvmsim_cupti_table = {
    1,
    [] { return Engine::Get() != nullptr; },
    [](uint32_t kinds) {
      if (Engine* engine = Engine::Get()) engine->tools().Enable(kinds);
    },
    [](bool enabled) {
      if (Engine* engine = Engine::Get()) engine->EnableKernelRecords(enabled);
    },
    [] {
      if (Engine* engine = Engine::Get()) engine->tools().Flush();
    },
    [](uvmsim::CuptiMemoryRecord* records, size_t capacity) {
      Engine* engine = Engine::Get();
      return engine == nullptr ? size_t{0} : engine->tools().Read(records, capacity);
    },
    [](uvmsim::CuptiKernelRecord* records, size_t capacity) {
      Engine* engine = Engine::Get();
      return engine == nullptr ? size_t{0} : engine->ReadKernelRecords(records, capacity);
    },
    [] {
      Engine* engine = Engine::Get();
      return engine == nullptr ? uint64_t{0} : engine->tools().dropped();
    },
    [](EngineTotals* totals) {
      *totals = {};
      if (Engine* engine = Engine::Get()) engine->Totals(totals);
    },
};

const uvmsim::SynchronizationTable uvmsim_synchronization_table = {
    [](bool enabled) {
      if (Engine* engine = Engine::Get()) engine->EnableSynchronizationRecords(enabled);
    },
    [](uvmsim::CuptiSynchronizationRecord* records, size_t capacity) {
      Engine* engine = Engine::Get();
      return engine == nullptr ? size_t{0} : engine->ReadSynchronizationRecords(records, capacity);
    },
};

// The ABI of CUDA 11.3.
CUresult CUDAAPI cuGetProcAddress(const char* symbol, void** function, int version, cuuint64_t flags) {
  return Find(symbol, function, version, flags, nullptr);
}

// The ABI of CUDA 12, with the status.
CUresult CUDAAPI cuGetProcAddress_v2(const char* symbol, void** function, int version, cuuint64_t flags,
                                     CUdriverProcAddressQueryResult* status) {
  return Find(symbol, function, version, flags, status);
}

CUresult CUDAAPI cuGetExportTable(const void** table, const CUuuid* id) {
  if (table == nullptr || id == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (memcmp(id, &uvmsim::kRuntimeTableId, sizeof *id) != 0) return CUDA_ERROR_NOT_FOUND;
  *table = &kRuntimeTable;
  return CUDA_SUCCESS;
}

}  // extern "C"
