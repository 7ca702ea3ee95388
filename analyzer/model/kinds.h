// The enumerations that several models count by.
#pragma once

#include <cstddef>
#include <cstdint>

namespace uvmtrace::analyzer {

// Devices that are none.
inline constexpr int32_t kCpu = -1;
inline constexpr int32_t kUnknownDevice = -2;

enum class Direction : uint8_t { kHostToDevice, kDeviceToHost, kDeviceToDevice, kUnknown };
inline constexpr size_t kDirectionCount = 4;

// Values of uvmtrace.proto's MigrationCause.
enum class MigrationCause : uint8_t {
  kUnknown = 0,
  kUser = 1,
  kCoherence = 2,
  kPrefetch = 3,
  kEviction = 4,
  kAccessCounters = 5,
};
inline constexpr size_t kMigrationCauseCount = 6;

// Values of uvmtrace.proto's MemoryKind.
enum class MemoryKind : uint8_t {
  kUnknown = 0,
  kDevice = 1,
  kManaged = 2,
  kPinned = 3,
  kRegistered = 4,
  kPool = 5,
  kPhysical = 6,
  kReserved = 7,
  kImported = 8,
  kSystem = 9,  // of the analyzer alone: what CUDA did not allocate and GPUs reach all the same (HMM, ATS)
};
inline constexpr size_t kMemoryKindCount = 9;  // that calls name

// Values of uvmtrace.proto's Access.
enum class Access : uint8_t { kUnknown = 0, kRead = 1, kWrite = 2, kAtomic = 3, kPrefetch = 4 };
inline constexpr size_t kAccessCount = 5;

// Values of uvmtrace.proto's Door.
enum class Door : uint8_t { kUnknown = 0, kRuntimeSymbol = 1, kDriverSymbol = 2, kGetProcAddress = 3, kCupti = 4 };
inline constexpr size_t kDoorCount = 5;

}  // namespace uvmtrace::analyzer
