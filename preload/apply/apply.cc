#include "preload/apply/apply.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <initializer_list>
#include <new>

#include "preload/apply/applied_calls.h"
#include "preload/apply/apply_file.h"
#include "preload/apply/apply_state.h"
#include "preload/apply/site_match.h"
#include "preload/apply/tracked_memory.h"
#include "preload/base/apply_wanted.h"
#include "preload/base/hooked_thread.h"
#include "record/diagnostics.h"
#include "record/memory.h"
#include "record/os/futex.h"
#include "record/recorder.h"

namespace uvmtrace {

constinit std::atomic<bool> apply_active{false};

namespace apply {

constinit ShortLock lock;
constinit ApplyFile file{};
constinit TrackedMemory tracked;
constinit uint64_t brought_total = 0;
constinit uint64_t room_bytes = 0;
constinit uint64_t last_used = 0;
constinit CUstream side_stream = nullptr;
constinit bool no_side_stream = false;
constinit Counts counts[kApplyChanges]{};
constinit std::atomic<uint64_t> wait_epoch{1};
constinit std::atomic<bool> any_tracked{false};

void CountCall(uint32_t changes, ApplyAction action, uint64_t bytes, CUresult result) {
  ForEachChange(changes, [&](size_t change) {
    if (!file.change[change].Has(action)) return;
    if (result == CUDA_SUCCESS) {
      Add(&counts[change].calls);
      Add(&counts[change].bytes, bytes);
    } else {
      Add(&counts[change].failed);
      counts[change].result.store(static_cast<uint64_t>(result), std::memory_order_relaxed);
    }
  });
}

}  // namespace apply

using namespace apply;

namespace {

constinit SiteMatcher matcher;
constinit std::atomic<bool> changes_allocations{false};

// The text of the file, for as long as the process lives. Empty with a cause.
std::string_view ReadText(const char* path, const char** cause) {
  const int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) {
    *cause = "cannot be opened";
    return {};
  }
  struct stat status;
  std::string_view text;
  *cause = "is no file of 1 byte to 1 MiB";
  if (fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode) && status.st_size > 0 &&
      status.st_size <= static_cast<off_t>(kApplyFileBytes)) {
    const auto bytes = static_cast<size_t>(status.st_size);
    auto* const memory = static_cast<char*>(MapPages(bytes));
    size_t have = 0;
    while (memory != nullptr && have < bytes) {
      const ssize_t got = read(descriptor, memory + have, bytes - have);
      if (got <= 0) break;
      have += static_cast<size_t>(got);
    }
    if (memory == nullptr || have < bytes) *cause = "cannot be read";
    if (memory != nullptr && have == bytes) text = {memory, bytes};
  }
  close(descriptor);
  return text;
}

void TellChange(size_t change) {
  const Counts& count = counts[change];
  const bool idle = Get(count.allocations) == 0;
  const bool refused = Get(count.calls) == 0 && Get(count.failed) + Get(count.too_large) > 0;
  char name[24];
  char reason[300];
  snprintf(name, sizeof(name), "%s.%zu", kApplySource.data(), change + 1);
  snprintf(reason, sizeof(reason),
           "line=%u allocations=%llu calls=%llu bytes=%llu suppressed=%llu failed=%llu too_large=%llu result=%llu",
           file.change[change].line, static_cast<unsigned long long>(Get(count.allocations)),
           static_cast<unsigned long long>(Get(count.calls)), static_cast<unsigned long long>(Get(count.bytes)),
           static_cast<unsigned long long>(Get(count.suppressed)), static_cast<unsigned long long>(Get(count.failed)),
           static_cast<unsigned long long>(Get(count.too_large)), static_cast<unsigned long long>(Get(count.result)));
  Recorder::Get().SetSourceState(name,
                                 idle      ? SourceStateKind::kIdle
                                 : refused ? SourceStateKind::kUnavailable
                                           : SourceStateKind::kActive,
                                 reason);
}

// Which advice an action gives; false: it gives none.
bool AdviceOf(ApplyAction action, int32_t device, CUmem_advise* advice, int32_t* location) {
  *location = device;
  switch (action) {
    case ApplyAction::kReadMostly:
      *advice = CU_MEM_ADVISE_SET_READ_MOSTLY;
      return true;
    case ApplyAction::kPreferGpu:
      *advice = CU_MEM_ADVISE_SET_PREFERRED_LOCATION;
      return true;
    case ApplyAction::kPreferHost:
      *advice = CU_MEM_ADVISE_SET_PREFERRED_LOCATION;
      *location = kCpu;
      return true;
    case ApplyAction::kAccessedBy:
      *advice = CU_MEM_ADVISE_SET_ACCESSED_BY;
      return true;
    default:
      return false;
  }
}

void GiveAdvice(uint32_t changes, uint64_t address, uint64_t bytes) {
  int32_t device = kUnknownDevice;
  for (size_t i = 0; i < kApplyActionCount; ++i) {
    const auto action = static_cast<ApplyAction>(i);
    CUmem_advise advice;
    int32_t location = 0;
    if (!AdviceOf(action, 0, &advice, &location)) continue;
    bool wanted = false;
    ForEachChange(changes, [&](size_t change) { wanted |= file.change[change].Has(action); });
    if (!wanted) continue;
    if (device == kUnknownDevice) device = ContextDevice();
    if (device == kUnknownDevice) {
      CountCall(changes, action, bytes, CUDA_ERROR_NOT_SUPPORTED);
      continue;
    }
    AdviceOf(action, device, &advice, &location);
    const RelaxedCapture relaxed;
    CountCall(changes, action, bytes, ApplyAdvice(address, bytes, advice, location));
  }
}

void Track(uint32_t changes, uint64_t address, uint64_t bytes) {
  bool first = false;
  ForEachChange(changes, [&](size_t change) { first |= counts[change].allocations.fetch_add(1) == 0; });
  TrackedAllocation allocation;
  allocation.address = address;
  allocation.bytes = bytes;
  allocation.changes = changes;
  bool kept = false;
  if (const ShortLockGuard guard(lock); guard) kept = tracked.Insert(allocation);
  if (!kept) Recorder::Get().CountLoss("apply", "allocations beyond 4096 that live at once get no prefetch", 1);
  any_tracked.store(true, std::memory_order_relaxed);
  GiveAdvice(changes, address, bytes);
  if (first) TellApply();
}

bool IsManaged(MemoryKind kind) { return kind == MemoryKind::kManaged; }

}  // namespace

void StartApply() {
  const char* const wanted = ApplyPathWanted();
  if (wanted == nullptr) return;
  Recorder& recorder = Recorder::Get();
  char reason[PATH_MAX + 100];
  const char* cause = "";
  const std::string_view text = ReadText(wanted, &cause);
  ApplyError error;
  if (text.empty()) {
    snprintf(reason, sizeof(reason), "%s: %s", wanted, cause);
  } else if (!ParseApplyFile(text, &file, &error)) {
    snprintf(reason, sizeof(reason), "%s:%u: %s", wanted, error.line, error.cause);
  } else {
    reason[0] = '\0';
  }
  if (reason[0] != '\0') {
    Log(LogLevel::kWarn, "nothing is applied: %.800s", reason);
    recorder.SetSourceState(kApplySource, SourceStateKind::kUnavailable, reason);
    return;
  }
  matcher.Start(&file);
  uint32_t actions = 0;
  for (size_t i = 0; i < file.changes; ++i) {
    new (&counts[i]) Counts{};
    actions |= file.change[i].actions;
    TellChange(i);
  }
  constexpr uint32_t kOfAllocation =
      1u << static_cast<int>(ApplyAction::kManaged) | 1u << static_cast<int>(ApplyAction::kApart);
  changes_allocations.store((actions & kOfAllocation) != 0, std::memory_order_relaxed);
  recorder.SetSourceState(kApplySource, SourceStateKind::kActive, wanted);
  apply_active.store(true, std::memory_order_release);
}

void TellApply() {
  if (!ApplyActive()) return;
  for (size_t i = 0; i < file.changes; ++i) TellChange(i);
}

void ForgetApply() {
  apply_active.store(false, std::memory_order_relaxed);
  new (&lock) ShortLock;  // its owner does not exist here
  tracked.Clear();
  any_tracked.store(false, std::memory_order_relaxed);
  side_stream = nullptr;
  no_side_stream = false;
  last_used = brought_total = room_bytes = 0;
}

bool ApplyChangesAllocations() { return changes_allocations.load(std::memory_order_relaxed); }

MemoryKind KindToAllocate(std::span<const uint64_t> native, std::span<const uint64_t> python, bool* apart) {
  *apart = false;
  uint32_t changes = 0;
  if (const ShortLockGuard guard(lock); guard) changes = matcher.Match(native, python);
  bool managed = false;
  ForEachChange(changes, [&](size_t change) {
    managed |= file.change[change].Has(ApplyAction::kManaged);
    *apart |= file.change[change].Has(ApplyAction::kApart);
  });
  return managed ? MemoryKind::kManaged : MemoryKind::kUnknown;
}

void ApplyAtAllocation(const ApiCallEvent& call, std::span<const uint64_t> native, std::span<const uint64_t> python) {
  if (!IsManaged(call.memory_kind) || call.address == 0 || call.bytes == 0 || call.result != 0) return;
  const InternalWork internal;
  uint32_t changes = 0;
  if (const ShortLockGuard guard(lock); guard) changes = matcher.Match(native, python);
  if (changes != 0) Track(changes, call.address, call.bytes);
}

void ApplyAtVariable(std::string_view name, uint64_t address, uint64_t bytes) {
  if (address == 0 || bytes == 0) return;
  const InternalWork internal;
  uint32_t changes = 0;
  for (size_t i = 0; i < file.changes; ++i) {
    if (!file.change[i].variable.empty() && file.change[i].variable == name) changes |= 1u << i;
  }
  if (changes != 0) Track(changes, address, bytes);
}

void ApplyAtFree(uint64_t address) {
  if (!any_tracked.load(std::memory_order_relaxed)) return;
  if (const ShortLockGuard guard(lock); guard) tracked.Remove(address);
}

void ApplyAtCall(Operation operation, uint64_t address, uint64_t other_address) {
  if (!any_tracked.load(std::memory_order_relaxed)) return;
  switch (operation) {
    case Operation::kCopy:
      ApplyAtWait();  // most copies wait
      [[fallthrough]];
    case Operation::kPrefetch:
    case Operation::kAdvise:
      break;
    case Operation::kReset:
      return ApplyAtReset();
    default:
      return;
  }
  const ShortLockGuard guard(lock);
  if (!guard) return;
  for (const uint64_t at : {address, other_address}) {
    if (TrackedAllocation* const allocation = tracked.At(at)) allocation->on_gpu = false;
  }
}

void ApplyAtReset() {
  const ShortLockGuard guard(lock);
  if (!guard) return;
  tracked.Clear();
  side_stream = nullptr;
  last_used = 0;
}

void ApplyAtWait() { wait_epoch.fetch_add(1, std::memory_order_relaxed); }

}  // namespace uvmtrace
