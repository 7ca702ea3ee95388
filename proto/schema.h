// The enums of uvmtrace.proto, for the recorder and the analyzer. Neither may link libprotobuf's: the recorder lives in
// somebody else's process, and the analyzer reads faster without. The test RecordSchema compares them with the .proto.
#pragma once

#include <cstdint>

namespace uvmtrace {

// Whether an event kind of events.inc has a clock and a source.
inline constexpr bool kClocked = true;
inline constexpr bool kUnclocked = false;

enum class TimeBase : uint8_t { kMonotonic = 0, kRealtime = 1, kMonotonicRaw = 2, kCupti = 3 };
enum class EventSource : uint8_t { kUnknown = 0, kCupti = 1, kDriverQueue = 2 };
enum class Door : uint8_t { kUnknown = 0, kRuntimeSymbol = 1, kDriverSymbol = 2, kGetProcAddress = 3, kCupti = 4 };
enum class Layer : uint8_t { kUnknown = 0, kRuntime = 1, kDriver = 2 };
enum class Operation : uint8_t {
  kOther = 0,
  kAllocate = 1,
  kFree = 2,
  kCopy = 3,
  kSet = 4,
  kPrefetch = 5,
  kAdvise = 6,
  kRegister = 7,
  kUnregister = 8,
  kReserve = 9,
  kUnreserve = 10,
  kCreate = 11,
  kRelease = 12,
  kMap = 13,
  kUnmap = 14,
  kSetAccess = 15,
  kInitialize = 16,
  kReset = 17,
  kProfilerStart = 18,
  kProfilerStop = 19,
  kMake = 20,
};
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
};
enum class SourceStateKind : uint8_t {
  kUnknown = 0,
  kActive = 1,
  kUnavailable = 2,
  kDisabled = 3,
  kIdle = 4,
  kStopped = 5,
};
enum class RegionKind : uint8_t {
  kUnknown = 0,
  kThrashing = 1,
  kThrottling = 2,
  kRemoteMap = 3,
  kReadDuplicate = 4,
  kReadDuplicateInvalidate = 5,
  kFatalFault = 6,
};
enum class CopyKind : uint8_t {
  kUnknown = 0,
  kHostToDevice = 1,
  kDeviceToHost = 2,
  kDeviceToDevice = 3,
  kHostToHost = 4,
  kPeer = 5,
  kSet = 6,
};
enum class CopyMemory : uint8_t {
  kUnknown = 0,
  kPageable = 1,
  kPinned = 2,
  kDevice = 3,
  kArray = 4,
  kManaged = 5,
};
enum class SynchronizationKind : uint8_t { kUnknown = 0, kEvent = 1, kStreamWait = 2, kStream = 3, kContext = 4 };
enum class AnnotationKind : uint8_t { kUnknown = 0, kPush = 1, kPop = 2, kStart = 3, kEnd = 4, kMark = 5 };
enum class ThreadRole : uint8_t { kUnknown = 0, kBottomHalf = 1, kToolsQueue = 2 };

}  // namespace uvmtrace
