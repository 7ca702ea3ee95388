// The scripted libcupti of fake_cupti.cc, as the tests of cupti/ use it.
#pragma once

#include <cupti.h>
#include <dlfcn.h>
#include <errno.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "cupti/cupti_source.h"
#include "cupti/foreign_client.h"
#include "record/recorder.h"
#include "tests/unit/fake_cupti.h"
#include "tests/unit/sources_trace.h"

namespace uvmtrace::cupti_test {

using sources_test::RecordInChild;
using sources_test::TraceContents;

inline constexpr char kFakeCupti[] = UVMTRACE_FAKE_CUPTI_FOLDER "/libcupti.so.13";
inline constexpr char kCudartBesideIt[] = UVMTRACE_FAKE_CUPTI_FOLDER "/libcudart.so.13";
inline constexpr uint64_t kStartNs = 1'790'000'000'000'000'000;  // about now in CLOCK_REALTIME
inline constexpr uint32_t kCpuId = 0xFFFFFFFF;

inline FakeCupti* Fake() {
  void* library = dlopen(kFakeCupti, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return nullptr;
  auto script = reinterpret_cast<FakeCupti* (*)()>(dlsym(library, "FakeCuptiScript"));
  return script == nullptr ? nullptr : script();
}

inline CuptiOptions Options() {
  CuptiOptions options;
  options.cudart_path = kCudartBesideIt;
  return options;
}

// The newest layout; the fake cuts it to what its version has.
inline CUpti_ActivityUnifiedMemoryCounter3 Counter(CUpti_ActivityUnifiedMemoryCounterKind kind) {
  CUpti_ActivityUnifiedMemoryCounter3 record{};
  record.kind = CUPTI_ACTIVITY_KIND_UNIFIED_MEMORY_COUNTER;
  record.counterKind = kind;
  record.start = kStartNs;
  record.end = kStartNs + 1000;
  record.address = 0x7f0000000000;
  record.srcId = 0;
  record.dstId = kCpuId;
  record.streamId = 0xDEAD;
  record.processId = 1;
  return record;
}

template <typename Record>
void Queue(FakeCupti* fake, const Record& record) {
  fake->queue(&record, sizeof record);
}

inline void SleepMs(int milliseconds) { usleep(static_cast<useconds_t>(milliseconds) * 1000); }

inline bool WaitFor(const std::function<bool()>& condition, int timeout_ms = 5000) {
  for (int i = 0; i < timeout_ms; ++i) {
    if (condition()) return true;
    SleepMs(1);
  }
  return condition();
}

}  // namespace uvmtrace::cupti_test
