// What NVML tells of each device: how many bytes crossed its link to the host, and how much of its memory is free.
//
// The link's counters are the only thing that sees zero-copy traffic: no fault, no migration and no copy shows memory
// that is read in place. They count packet headers and every process on the device; link_pace.h says how often they are
// read. libnvidia-ml.so.1 is opened at run time and takes 10 ms to start. One thread uses an object.
#pragma once

#include <cstddef>
#include <cstdint>

#include "driver/link_pace.h"
#include "driver/nvml_abi.h"
#include "driver/tools_interface.h"

namespace uvmtrace {

class NvmlSampler {
 public:
  using Lookup = void* (*)(void* library, const char* name);

  // Opens the library and finds the devices by their UUIDs. The result is the source state "link_counters". `lookup` is
  // dlsym without the recorder's own doors.
  void Open(Lookup lookup, const DeviceUuid* devices, size_t count);
  bool opened() const { return device_count_ != 0; }

  // Adds to each device's series and records a row. After a pause the series goes on where it stood: what crossed the
  // link meanwhile is not in it.
  void SampleLinks(uint64_t now_ns);
  void PauseLinks() { paused_ = true; }
  // Until the next sample is due.
  uint64_t LinkPeriodNs() const;

  void SampleMemory(uint64_t now_ns);

  // In a forked child: the library's own state is the parent's, and is not touched.
  void Abandon() { *this = NvmlSampler(); }

  // Exposed for tests: the difference of two readings of a counter of 32 bits.
  static uint64_t Difference(uint32_t before, uint32_t now) { return static_cast<uint32_t>(now - before); }

 private:
  static constexpr size_t kMaximumDevices = 16;

  struct Device {
    void* handle = nullptr;
    uint32_t ordinal = 0;
    uint32_t last_received = 0;
    uint32_t last_sent = 0;
    uint64_t last_ns = 0;
    uint64_t received_bytes = 0;
    uint64_t sent_bytes = 0;
    uint64_t unsure_ns = 0;
    bool has_links = true;
    LinkPace pace;
  };

  struct Api {
    int (*Init)() = nullptr;
    int (*GetHandleByUuid)(const char* uuid, void** device) = nullptr;
    int (*GetFieldValues)(void* device, int count, NvmlFieldValue* values) = nullptr;
    int (*GetMemoryInfo)(void* device, NvmlMemory* memory) = nullptr;
  };

  bool ReadLink(const Device& device, uint32_t* received, uint32_t* sent) const;

  Api api_;
  Device devices_[kMaximumDevices];
  size_t device_count_ = 0;
  bool paused_ = true;
};

}  // namespace uvmtrace
