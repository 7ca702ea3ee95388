// See nvml_sampler.h.
#include "driver/nvml_sampler.h"

#include <dlfcn.h>
#include <stdio.h>

#include <algorithm>
#include <type_traits>

#include "record/os/loader_work.h"
#include "record/recorder.h"

namespace uvmtrace {
namespace {

constexpr const char* kSource = "link_counters";

// "GPU-" and the UUID in groups of 4, 2, 2, 2 and 6 bytes.
void FormatUuid(const DeviceUuid& uuid, char (&text)[48]) {
  int used = snprintf(text, sizeof text, "GPU");
  for (size_t i = 0; i < sizeof uuid.bytes; ++i) {
    const bool group = i == 0 || i == 4 || i == 6 || i == 8 || i == 10;
    used += snprintf(text + used, sizeof text - static_cast<size_t>(used), "%s%02x", group ? "-" : "", uuid.bytes[i]);
  }
}

}  // namespace

void NvmlSampler::Open(Lookup lookup, const DeviceUuid* devices, size_t count) {
  Recorder& recorder = Recorder::Get();
  if (count == 0) {
    return recorder.SetSourceState(kSource, SourceStateKind::kUnavailable,
                                   "no device was found whose link could be read");
  }
  char reason[300];
  void* library = nullptr;
  {
    const LoaderWork loader;
    library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (library != nullptr) {
      const auto load = [&](auto& function, const char* name) {
        function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(lookup(library, name));
        return function != nullptr;
      };
      if (!load(api_.Init, "nvmlInit_v2") || !load(api_.GetHandleByUuid, "nvmlDeviceGetHandleByUUID") ||
          !load(api_.GetFieldValues, "nvmlDeviceGetFieldValues") ||
          !load(api_.GetMemoryInfo, "nvmlDeviceGetMemoryInfo")) {
        library = nullptr;
      }
    }
  }
  if (library == nullptr) {
    return recorder.SetSourceState(kSource, SourceStateKind::kUnavailable,
                                   "libnvidia-ml.so.1 cannot be opened, or is older than driver 450: make it visible "
                                   "(a container needs NVIDIA_DRIVER_CAPABILITIES=utility)");
  }
  if (const int result = api_.Init(); result != nvml::kSuccess) {
    snprintf(reason, sizeof reason, "nvmlInit failed with %d", result);
    return recorder.SetSourceState(kSource, SourceStateKind::kUnavailable, reason);
  }
  size_t with_links = 0;
  for (size_t i = 0; i < count && device_count_ < kMaximumDevices; ++i) {
    char uuid[48];
    FormatUuid(devices[i], uuid);
    Device& device = devices_[device_count_];
    if (api_.GetHandleByUuid(uuid, &device.handle) != nvml::kSuccess) continue;
    device.ordinal = static_cast<uint32_t>(i);
    device.has_links = ReadLink(device, &device.last_received, &device.last_sent);
    with_links += device.has_links;
    ++device_count_;
  }
  if (with_links != 0) return recorder.SetSourceState(kSource, SourceStateKind::kActive);
  recorder.SetSourceState(kSource, SourceStateKind::kUnavailable,
                          device_count_ == 0 ? "NVML does not know the devices of this process (parts of a GPU, MIG?)"
                                             : "these devices have no PCIe byte counters");
}

bool NvmlSampler::ReadLink(const Device& device, uint32_t* received, uint32_t* sent) const {
  NvmlFieldValue values[2];
  values[0].field = nvml::kReceivedBytes;
  values[1].field = nvml::kSentBytes;
  if (api_.GetFieldValues(device.handle, 2, values) != nvml::kSuccess || values[0].result != nvml::kSuccess ||
      values[1].result != nvml::kSuccess) {
    return false;
  }
  *received = static_cast<uint32_t>(values[0].value);
  *sent = static_cast<uint32_t>(values[1].value);
  return true;
}

void NvmlSampler::SampleLinks(uint64_t now_ns) {
  for (size_t i = 0; i < device_count_; ++i) {
    Device& device = devices_[i];
    uint32_t received = 0;
    uint32_t sent = 0;
    if (!device.has_links || !ReadLink(device, &received, &sent)) continue;
    if (!paused_ && device.last_ns != 0) {
      const uint64_t received_bytes = Difference(device.last_received, received);
      const uint64_t sent_bytes = Difference(device.last_sent, sent);
      device.received_bytes += received_bytes;
      device.sent_bytes += sent_bytes;
      const uint64_t interval_ns = now_ns - device.last_ns;
      if (device.pace.Add(std::max(received_bytes, sent_bytes), interval_ns)) device.unsure_ns += interval_ns;
    }
    device.last_received = received;
    device.last_sent = sent;
    device.last_ns = now_ns;
    LinkSampleEvent event;
    event.time_ns = now_ns;
    event.received_bytes = device.received_bytes;
    event.sent_bytes = device.sent_bytes;
    event.unsure_ns = device.unsure_ns;
    event.device = device.ordinal;
    Recorder::Get().Record(event);
  }
  paused_ = false;
}

uint64_t NvmlSampler::LinkPeriodNs() const {
  uint64_t period_ns = LinkPace::kQuietNs;
  for (size_t i = 0; i < device_count_; ++i) {
    if (devices_[i].has_links) period_ns = std::min(period_ns, devices_[i].pace.period_ns());
  }
  return period_ns;
}

void NvmlSampler::SampleMemory(uint64_t now_ns) {
  for (size_t i = 0; i < device_count_; ++i) {
    NvmlMemory memory;
    if (api_.GetMemoryInfo(devices_[i].handle, &memory) != nvml::kSuccess) continue;
    DeviceMemorySampleEvent event;
    event.time_ns = now_ns;
    event.free_bytes = memory.free;
    event.total_bytes = memory.total;
    event.device = devices_[i].ordinal;
    Recorder::Get().Record(event);
  }
}

}  // namespace uvmtrace
