// The two arguments that differ between the driver's branches, as each branch reads and answers them.
//
// A test's driver plays one branch. What it finds in the argument, and where it answers, is that branch's alone: a
// request that another branch would take gets the refusal that this one gives. scripts/check_driver_abi holds the
// structs against the headers of NVIDIA's open kernel modules.
#pragma once

#include <string.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "driver/tools_interface.h"

namespace uvmtrace {

enum class FakeBranch { k515, k550, k560, k565 };

inline constexpr FakeBranch kFakeBranches[] = {FakeBranch::k515, FakeBranch::k550, FakeBranch::k560, FakeBranch::k565};
inline const char* FakeVersion(FakeBranch branch) {
  static constexpr const char* kVersions[] = {"535.288.01", "550.163.01", "560.35.03", "580.95.05"};
  return kVersions[static_cast<int>(branch)];
}

// --- UVM_TOOLS_INIT_EVENT_TRACKER ---
struct FakeTrackerCommon {
  uint64_t queue;
  uint64_t queue_entries;
  uint64_t control;
  uint8_t processor[16];
  uint32_t all_processors;
  uint32_t va_space_descriptor;
};
struct FakeTracker515 {  // to 550.40.07, and from 565 on
  FakeTrackerCommon common;
  uint32_t status;
};
struct FakeTracker550 {  // 550.40.53 to 555
  FakeTrackerCommon common;
  uint32_t status;
  uint32_t requested_version;
  uint32_t granted_version;
};
struct FakeTracker560 {
  FakeTrackerCommon common;
  uint32_t version;
  uint32_t status;
};

// --- UVM_TOOLS_GET_PROCESSOR_UUID_TABLE ---
struct FakeTable515 {  // to 545
  uint64_t table;
  uint32_t count;
  uint32_t status;
};
struct FakeTable550 {  // to 555
  uint64_t table;
  uint32_t count;
  uint32_t status;
  uint32_t version;
};
struct FakeTable560 {
  uint64_t table;
  uint32_t version;
  uint32_t status;
};
struct FakeTable565 {
  uint64_t table;
  uint32_t status;
};

inline constexpr uint32_t kFakeInvalidArgument = 0x1f;
inline constexpr size_t kFakeProcessors = 33;  // UVM_MAX_PROCESSORS_V1

// Answers a tracker request. `create` is called where the branch finds nothing wrong with the versions; it returns the
// status of the rest. Writes no byte that the branch does not write.
template <typename Create>
void AnswerTracker(FakeBranch branch, void* data, Create create) {
  const auto& common = *static_cast<const FakeTrackerCommon*>(data);
  auto good = [](uint32_t version) { return version == 1 || version == 2; };
  switch (branch) {
    case FakeBranch::k515:
    case FakeBranch::k565:
      static_cast<FakeTracker515*>(data)->status = create(common, 1);
      return;
    case FakeBranch::k550: {
      auto* const argument = static_cast<FakeTracker550*>(data);
      const uint32_t version = argument->requested_version;
      argument->status = good(version) ? create(common, version) : kFakeInvalidArgument;
      if (argument->status == 0) argument->granted_version = version;
      return;
    }
    case FakeBranch::k560: {
      auto* const argument = static_cast<FakeTracker560*>(data);
      argument->status = good(argument->version) ? create(common, argument->version) : kFakeInvalidArgument;
      return;
    }
  }
}

// Answers a request for the table of processors; `processors` has the CPU at 0.
inline void AnswerTable(FakeBranch branch, void* data, const std::vector<DeviceUuid>& processors, uint32_t refusal) {
  auto write = [&](uint64_t table, size_t count) {
    std::vector<DeviceUuid> whole(count);
    std::copy_n(processors.begin(), std::min(count, processors.size()), whole.begin());
    memcpy(reinterpret_cast<void*>(table), whole.data(), count * sizeof(DeviceUuid));
  };
  size_t used = 1;
  const DeviceUuid none;
  for (size_t i = 0; i < processors.size(); ++i) {
    if (memcmp(&processors[i], &none, sizeof none) != 0) used = i + 1;
  }
  switch (branch) {
    case FakeBranch::k515: {
      auto* const argument = static_cast<FakeTable515*>(data);
      argument->status = refusal;
      if (refusal != 0) return;
      argument->count = static_cast<uint32_t>(used);
      return write(argument->table, used);
    }
    case FakeBranch::k550: {
      auto* const argument = static_cast<FakeTable550*>(data);
      argument->status = refusal;
      if (refusal != 0) return;
      const bool first_version = argument->count == 0;
      const size_t capacity = first_version ? kFakeProcessors : argument->count;
      argument->version = first_version ? 1 : 2;
      argument->count = static_cast<uint32_t>(used);
      return write(argument->table, capacity);
    }
    case FakeBranch::k560: {
      auto* const argument = static_cast<FakeTable560*>(data);
      const bool good = argument->version == 1 || argument->version == 2;
      argument->status = good ? refusal : kFakeInvalidArgument;
      if (argument->status == 0) write(argument->table, kFakeProcessors);
      return;
    }
    case FakeBranch::k565: {
      auto* const argument = static_cast<FakeTable565*>(data);
      argument->status = refusal;
      if (refusal == 0) write(argument->table, kFakeProcessors);
      return;
    }
  }
}

}  // namespace uvmtrace
