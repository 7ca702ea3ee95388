// See tools_requests.h.
#include "driver/tools_requests.h"

#include <errno.h>
#include <string.h>

namespace uvmtrace {
namespace {

// NV_STATUS: NV_ERR_INSUFFICIENT_RESOURCES, NV_ERR_INVALID_ARGUMENT, NV_ERR_NO_MEMORY.
constexpr uint32_t kInsufficientResources = 0x1a;
constexpr uint32_t kInvalidArgument = 0x1f;
constexpr uint32_t kNoMemory = 0x51;

// "UvmToolsEventQueueVersion_V1": entries of 64 bytes.
constexpr uint32_t kVersion1 = 1;

// More than any driver writes: 515 to 545 write as many as there are processors, later ones 33.
constexpr size_t kTableEntries = 512;

template <typename Argument>
int Send(const ToolsCalls& calls, int descriptor, unsigned long number, Argument* argument) {
  return calls.control(descriptor, number, argument) == 0 ? 0 : errno;
}

ToolsAnswer SendFlags(const ToolsCalls& calls, int tools, unsigned long number, uint64_t flags) {
  ToolsFlags argument;
  argument.flags = flags;
  const int error = Send(calls, tools, number, &argument);
  return {error, argument.status};
}

bool IsNone(const DeviceUuid& uuid) {
  const DeviceUuid none;
  return memcmp(&uuid, &none, sizeof none) == 0;
}

}  // namespace

bool ToolsAnswer::short_of_memory() const {
  return error == ENOMEM || error == EAGAIN || status == kNoMemory || status == kInsufficientResources;
}

// Bytes 48 and 52 are, by branch: the status and nothing (515 to 545, 565 on), the status and the requested version
// (550 and 555), the version and the status (560). With 1 in both, every branch finds a version that it takes, and
// only 560 leaves the 1 in byte 48.
ToolsAnswer InitTracker(const ToolsCalls& calls, int tools, const ToolsTrackerRequest& request) {
  ToolsTracker argument;
  argument.queue = reinterpret_cast<uint64_t>(request.queue);
  argument.queue_entries = request.entries;
  argument.control = reinterpret_cast<uint64_t>(request.control);
  argument.all_processors = request.gpu == nullptr;
  if (request.gpu != nullptr) memcpy(argument.processor, request.gpu->bytes, sizeof argument.processor);
  argument.va_space_descriptor = static_cast<uint32_t>(request.va_space);
  argument.status_or_version = kVersion1;
  argument.version_or_status = kVersion1;
  const int error = Send(calls, tools, kToolsInitEventTracker, &argument);
  if (error != 0) return {error, 0};
  return {0, argument.status_or_version == kVersion1 ? argument.version_or_status : argument.status_or_version};
}

ToolsAnswer SetThreshold(const ToolsCalls& calls, int tools, uint32_t entries) {
  ToolsThreshold argument;
  argument.entries = entries;
  const int error = Send(calls, tools, kToolsSetNotificationThreshold, &argument);
  return {error, argument.status};
}

ToolsAnswer EnableEvents(const ToolsCalls& calls, int tools, uint64_t events) {
  return SendFlags(calls, tools, kToolsEnableEvents, events);
}

ToolsAnswer DisableEvents(const ToolsCalls& calls, int tools, uint64_t events) {
  return SendFlags(calls, tools, kToolsDisableEvents, events);
}

ToolsAnswer EnableCounters(const ToolsCalls& calls, int tools, uint64_t counters) {
  return SendFlags(calls, tools, kToolsEnableCounters, counters);
}

ToolsAnswer FlushEvents(const ToolsCalls& calls, int va_space) {
  ToolsFlush argument;
  const int error = Send(calls, va_space, kToolsFlushEvents, &argument);
  return {error, argument.status};
}

// Byte 8 is the status (565 on), a count that 550 and 555 read as well, where 0 means their first table (515 to 555),
// or the version that 560 insists on. So it is 0 at first, and 1 if that got nothing. Every table names the CPU, which
// is how a table is told from a refusal: the status stands in another place in each branch.
ToolsAnswer ReadProcessorUuids(const ToolsCalls& calls, int va_space, DeviceUuid (&uuids)[kToolsProcessors]) {
  ToolsAnswer answer;
  for (uint32_t version = 0; version <= kVersion1; ++version) {
    DeviceUuid table[kTableEntries];
    ToolsProcessorTable argument;
    argument.table = reinterpret_cast<uint64_t>(table);
    argument.count_version_or_status = version;
    answer.error = Send(calls, va_space, kToolsGetProcessorTable, &argument);
    if (answer.error != 0) return answer;
    if (!IsNone(table[0])) {
      memcpy(uuids, table, sizeof uuids);
      return {};
    }
    // Where neither word holds one it is an argument that this driver does not know.
    answer.status = argument.status != 0 ? argument.status : argument.count_version_or_status;
    if (answer.status == version) answer.status = kInvalidArgument;
  }
  return answer;
}

}  // namespace uvmtrace
