// The part of NVML that the recorder uses: the link's byte counters, 32 bits wide as the real ones, and the device's
// memory. NVML's header is not in every toolkit, so the few types are spelled out, as in driver/nvml_abi.h.
#include <cuda.h>
#include <dlfcn.h>

#include <cstdint>
#include <cstring>

#include "driver/nvml_abi.h"
#include "sim/engine/lacks.h"
#include "sim/engine/tables.h"

using uvmtrace::NvmlFieldValue;
using uvmtrace::NvmlMemory;
namespace nvml = uvmtrace::nvml;

#define NVML_EXPORT extern "C" __attribute__((visibility("default")))

namespace {

template <typename Function>
Function* FromDriver(const char* name) {
  void* driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
  return driver != nullptr ? reinterpret_cast<Function*>(dlsym(driver, name)) : nullptr;
}

const uvmsim::CuptiTable* Table() {
  const auto* table = FromDriver<const uvmsim::CuptiTable>("uvmsim_cupti_table");
  return table != nullptr && table->initialized() ? table : nullptr;
}

int g_device;

}  // namespace

NVML_EXPORT int nvmlInit_v2() {
  constexpr int kDriverNotLoaded = 9;
  return uvmsim::IsLacking(uvmsim::Lack::kNvml) ? kDriverNotLoaded : nvml::kSuccess;
}
NVML_EXPORT int nvmlShutdown() { return nvml::kSuccess; }
NVML_EXPORT const char* nvmlErrorString(int) { return "an error of the simulator"; }

// There is one device, whatever its name.
NVML_EXPORT int nvmlDeviceGetHandleByUUID(const char*, void** device) {
  *device = &g_device;
  return nvml::kSuccess;
}

NVML_EXPORT int nvmlDeviceGetMemoryInfo(void*, NvmlMemory* memory) {
  const auto table = Table();
  if (table == nullptr) return nvml::kNotSupported;
  uvmsim::EngineTotals totals;
  table->totals(&totals);
  *memory = {totals.memory_bytes, totals.memory_bytes - totals.memory_used_bytes, totals.memory_used_bytes};
  return nvml::kSuccess;
}

NVML_EXPORT int nvmlDeviceGetFieldValues(void*, int count, NvmlFieldValue* values) {
  const auto table = Table();
  uvmsim::EngineTotals totals = {};
  if (table != nullptr) table->totals(&totals);
  for (int i = 0; i < count; ++i) {
    const bool received = values[i].field == nvml::kReceivedBytes;
    const bool known = table != nullptr && (received || values[i].field == nvml::kSentBytes);
    values[i].result = known ? nvml::kSuccess : nvml::kNotSupported;
    values[i].value_type = nvml::kUnsignedInt;
    values[i].value = static_cast<uint32_t>(received ? totals.link_received_bytes : totals.link_sent_bytes);
  }
  return nvml::kSuccess;
}
