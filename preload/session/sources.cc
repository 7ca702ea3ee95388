// See sources.h.
#include "preload/session/sources.h"

#include <stdio.h>
#include <string.h>

#include "cupti/cupti_source.h"
#include "cupti/dynamic_library.h"
#include "driver/driver_sampler.h"
#include "driver/exact_counters.h"
#include "driver/queue_source.h"
#include "preload/doors/resolve.h"
#include "preload/session/devices.h"
#include "preload/session/migrate_calls.h"
#include "preload/session/own_cost.h"
#include "record/recorder.h"
#include "sim/include/uvmsim_host.h"

namespace uvmtrace {
namespace {

constexpr int kFinishQueueMs = 500;
constexpr int kFinishCuptiMs = 700;
constexpr int kFinishSamplerMs = 300;

constexpr const char* kCallsOnly = "UVMTRACE_DETAIL=calls";

constinit ToolsCalls simulator_calls = {};

uint64_t OtherThreadsCpuNs() { return Recorder::Get().WriterCpuNs() + CuptiThreadCpuNs() + QueueThreadCpuNs(); }

// What CUPTI's records are held against.
uint64_t UnifiedMemoryActivity() {
  const ExactTotals totals = LastExactTotals();
  return totals.host_to_device_bytes + totals.device_to_host_bytes + totals.gpu_faults;
}

// CUDA's devices as the driver beneath it calls them.
size_t ReadDeviceUuids(DeviceUuid* uuids, size_t capacity) {
  const auto get_count = reinterpret_cast<decltype(&::cuDeviceGetCount)>(DriverSymbol("cuDeviceGetCount"));
  const auto get_device = reinterpret_cast<decltype(&::cuDeviceGet)>(DriverSymbol("cuDeviceGet"));
  auto get_uuid = reinterpret_cast<decltype(&::cuDeviceGetUuid)>(DriverSymbol("cuDeviceGetUuid_v2"));
  if (get_uuid == nullptr) {
    get_uuid = reinterpret_cast<decltype(&::cuDeviceGetUuid)>(DriverSymbol("cuDeviceGetUuid"));
  }
  int count = 0;
  if (get_count == nullptr || get_device == nullptr || get_uuid == nullptr || get_count(&count) != CUDA_SUCCESS) {
    return 0;
  }
  size_t found = 0;
  for (; found < capacity && found < static_cast<size_t>(count); ++found) {
    CUdevice device = 0;
    CUuuid uuid{};
    if (get_device(&device, static_cast<int>(found)) == CUDA_SUCCESS) get_uuid(&uuid, device);
    static_assert(sizeof uuid.bytes == sizeof uuids->bytes);
    memcpy(uuids[found].bytes, uuid.bytes, sizeof uuid.bytes);
  }
  return found;
}

// The tools interface to use; null: the simulator has none.
const ToolsCalls* Tools() {
  const auto* const host = static_cast<const UvmsimHost*>(DriverSymbol("uvmsim_host"));
  if (host == nullptr) return &kKernelTools;
  if (host->version < 2 || host->tools == nullptr) return nullptr;
  simulator_calls = {host->tools->open_device, host->tools->find_va_spaces, host->tools->control, nullptr};
  return &simulator_calls;
}

void QueueGivenUp(const char*) { TakeOverUnifiedMemory(); }

// CUPTI records every migration or none.
void ExactQueueGivenUp(const char* reason) {
  Recorder::Get().SetDetail("full", reason);
  TakeOverUnifiedMemory();
}

QueueDetail DetailOfQueue(Detail detail) {
  switch (detail) {
    case Detail::kLight:
      return QueueDetail::kLight;
    case Detail::kSampled:
      return QueueDetail::kSampled;
    case Detail::kFull:
      return QueueDetail::kFull;
    case Detail::kCalls:  // opens none
    case Detail::kExact:
      break;
  }
  return QueueDetail::kExact;
}

bool StartQueue(const Config& config, const ToolsCalls* tools, const DeviceUuid* devices, size_t device_count) {
  if (config.source == Source::kCupti) {
    DisableQueueSource("UVMTRACE_SOURCE=cupti");
    return false;
  }
  if (tools == nullptr) {
    Recorder::Get().SetSourceState("driver_queue", SourceStateKind::kUnavailable, "the simulator has no driver queue");
    return false;
  }
  QueueSourceOptions options;
  options.tools = tools;
  options.devices = devices;
  options.device_count = device_count;
  options.system_memory = PageableMemoryAccess();
  options.detail = DetailOfQueue(config.detail);
  // CUPTI records every migration, which is not what light and sampled ask for.
  if (config.source == Source::kAuto && options.detail == QueueDetail::kFull) options.given_up = &QueueGivenUp;
  if (config.source == Source::kAuto && options.detail == QueueDetail::kExact) options.given_up = &ExactQueueGivenUp;
  return StartQueueSource(options);
}

// Why the bottom-half threads' stacks are not sampled; null: they are. A sample costs the thread some 30 us, a thousand
// of them in a second 3 % of a fault-driven phase: as much as all else at the details below "full".
const char* BottomHalfStacksOff(const Config& config) {
  if (config.detail == Detail::kCalls) return kCallsOnly;
  if (config.bottom_half_stacks == Config::BottomHalfStacks::kOff) return "UVMTRACE_BH_STACKS=0";
  if (config.detail != Detail::kFull && config.bottom_half_stacks == Config::BottomHalfStacks::kByDetail) {
    return "only at the detail full, unless UVMTRACE_BH_STACKS=1";
  }
  return nullptr;
}

// What the process is recorded at, and why it is not what was asked for.
void TellDetail(const Config& config, bool queue) {
  Recorder& recorder = Recorder::Get();
  switch (config.detail) {
    case Detail::kCalls:
    case Detail::kFull:
      return recorder.SetDetail(DetailName(config.detail), "");
    case Detail::kLight:
      return queue ? recorder.SetDetail("light", "")
                   : recorder.SetDetail("calls", "light needs the driver's queue; exact counters and kernels are kept");
    case Detail::kExact:
    case Detail::kSampled: {
      const char* const name = DetailName(config.detail);
      if (queue) return recorder.SetDetail(name, "");
      char reason[64];
      snprintf(reason, sizeof reason, "%s needs the driver's queue", name);
      return recorder.SetDetail(config.source == Source::kQueue ? "calls" : "full", reason);
    }
  }
}

CuptiOptions OptionsOfCupti(const Config& config) {
  CuptiOptions options;
  options.cudart_path = RuntimePath();
  options.drain_period_us = config.drain_period_us;
  options.buffer_bytes = config.buffer_bytes;
  options.simulated = SimulatorRoot() != nullptr;
  options.kernels = config.kernels;
  options.launches = config.launches;
  options.activity = &UnifiedMemoryActivity;
  return options;
}

// Why CUPTI is not to tell of faults and migrations; null: it is.
const char* UnifiedMemoryOff(const Config& config, bool queue) {
  if (queue) return "the driver's queue records it";
  if (config.source == Source::kQueue) return "UVMTRACE_SOURCE=queue";
  if (config.detail == Detail::kLight) {
    return "UVMTRACE_DETAIL=light: CUPTI cannot record faults without migrations";
  }
  return nullptr;
}

// CUPTI runs already where kernels were wanted before there was managed memory.
void StartCuptiBeside(const Config& config, bool queue, bool runs_already) {
  CuptiOptions options = OptionsOfCupti(config);
  options.unified_memory_off = UnifiedMemoryOff(config, queue);
  if (runs_already) {
    if (options.unified_memory_off == nullptr) TakeOverUnifiedMemory();
    return;
  }
  if (options.unified_memory_off != nullptr && !options.kernels) {
    char reason[300];
    snprintf(reason, sizeof reason, "%s; UVMTRACE_KERNELS=0", options.unified_memory_off);
    return DisableCupti(reason);
  }
  StartCupti(options);
}

}  // namespace

void AnnounceSources(const Config& config) {
  if (config.detail == Detail::kCalls) {
    DisableCupti(kCallsOnly);
    DisableQueueSource(kCallsOnly);
    Recorder::Get().SetDetail("calls", "");
    return;
  }
  for (const char* source : {"cupti", "driver_queue"}) {
    Recorder::Get().SetSourceState(source, SourceStateKind::kIdle, "no managed memory has been allocated");
  }
}

void TellSourcesUnavailable(const Config& config, const char* reason) {
  if (config.detail == Detail::kCalls) return;
  for (const char* source : {"cupti", "driver_queue"}) {
    Recorder::Get().SetSourceState(source, SourceStateKind::kUnavailable, reason);
  }
}

void StartSampler(const Config& config) {
  const char* const simulator_root = SimulatorRoot();
  DriverSamplerOptions sampler = {.root = simulator_root != nullptr ? simulator_root : "",
                                  .period_us = config.sample_period_us,
                                  .other_tool_threads_cpu_ns = &OtherThreadsCpuNs,
                                  .bottom_half_stacks_off = BottomHalfStacksOff(config),
                                  .record_own_cost = &RecordOwnCost,
                                  .nvml_lookup = &RealDlsym};
  DeviceUuid devices[kMaxDevices];
  sampler.devices = devices;
  sampler.device_count = ReadDeviceUuids(devices, kMaxDevices);
  if (config.detail == Detail::kCalls) {
    sampler.exact_counters_off = kCallsOnly;
  } else {
    sampler.tools = Tools();
  }
  StartDriverSampler(sampler);
}

bool StartKernelSources(const Config& config) {
  if (config.detail == Detail::kCalls || !config.kernels) return false;
  CuptiOptions options = OptionsOfCupti(config);
  options.unified_memory_off = "no managed memory has been allocated";
  StartCupti(options);
  return true;
}

void StartManagedSources(const Config& config, bool cupti_runs) {
  if (config.detail == Detail::kCalls) return;
  DeviceUuid devices[kMaxDevices];
  const size_t device_count = ReadDeviceUuids(devices, kMaxDevices);
  const ToolsCalls* const tools = Tools();
  if (tools != nullptr) RecordMigrateCalls(*tools, devices, device_count);
  const bool queue = StartQueue(config, tools, devices, device_count);
  TellDetail(config, queue);
  StartCuptiBeside(config, queue, cupti_runs);
}

void SetSourcesLive(bool live) {
  SetQueueManagedMemoryLive(live);
  SetCuptiManagedMemoryLive(live);
  SetDriverManagedMemoryLive(live);
}

void SetHostMemoryLive(bool live) { SetDriverHostMemoryLive(live); }

void FinishAllSources() {
  FinishQueueSource(kFinishQueueMs);
  FinishCupti(kFinishCuptiMs);
  FinishDriverSampler(kFinishSamplerMs);
}

void AbandonSourcesAfterFork() {
  AbandonQueueSourceAfterFork();
  AbandonCuptiAfterFork();
  AbandonDriverSamplerAfterFork();
}

uint32_t SourcesCuptiVersion() { return CuptiVersion(); }

}  // namespace uvmtrace
