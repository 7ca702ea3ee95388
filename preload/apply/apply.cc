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

namespace {

// What became of a change. The order of kApplyCounts, from "allocations" on.
struct Counts {
  std::atomic<uint64_t> allocations;
  std::atomic<uint64_t> calls;
  std::atomic<uint64_t> bytes;
  std::atomic<uint64_t> suppressed;
  std::atomic<uint64_t> failed;
  std::atomic<uint64_t> too_large;
  std::atomic<uint64_t> result;
};

// Holds what follows it, but for the counts. Never while the driver is called: that may wait.
constinit ShortLock lock;
constinit ApplyFile file{};
constinit SiteMatcher matcher;
constinit TrackedMemory tracked;
constinit uint64_t brought_total = 0;
constinit uint64_t room_bytes = 0;  // that the GPU had for this memory when the first of it came; 0: not asked yet
constinit uint64_t last_used = 0;   // address of the allocation that the last launch used
constinit CUstream side_stream = nullptr;
constinit bool no_side_stream = false;

constinit Counts counts[kApplyChanges]{};
constinit std::atomic<uint64_t> wait_epoch{1};
constinit std::atomic<bool> changes_allocations{false};
constinit std::atomic<bool> any_tracked{false};

void Add(std::atomic<uint64_t>* count, uint64_t value = 1) { count->fetch_add(value, std::memory_order_relaxed); }
uint64_t Get(const std::atomic<uint64_t>& count) { return count.load(std::memory_order_relaxed); }

template <typename Visit>
void ForEachChange(uint32_t changes, Visit visit) {
  for (; changes != 0; changes &= changes - 1) visit(static_cast<size_t>(__builtin_ctz(changes)));
}

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

// Launches ---------------------------------------------------------------------------------------------------------

namespace {

constexpr size_t kUsedAtMost = 64;  // remembered allocations of one launch

struct Used {
  uint64_t address;
  uint64_t bytes;
  uint32_t changes;
  bool bring;
  CUevent wait_for;  // it was brought ahead
};

class UsedMemory {
 public:
  void Add(const TrackedAllocation& allocation) {
    for (size_t i = 0; i < count_; ++i) {
      if (used_[i].address == allocation.address) return;
    }
    if (count_ < kUsedAtMost)
      used_[count_++] = {allocation.address, allocation.bytes, allocation.changes, false, nullptr};
  }
  Used* begin() { return used_; }
  Used* end() { return used_ + count_; }
  bool empty() const { return count_ == 0; }

 private:
  Used used_[kUsedAtMost];
  size_t count_ = 0;
};

// Every word of a value that may be an address.
void AddPointers(const void* value, size_t bytes, UsedMemory* used) {
  for (size_t offset = 0; offset + sizeof(uint64_t) <= bytes; offset += sizeof(uint64_t)) {
    uint64_t word;
    memcpy(&word, static_cast<const char*>(value) + offset, sizeof(word));
    if (const TrackedAllocation* const allocation = tracked.At(word)) used->Add(*allocation);
  }
}

// The sizes of a kernel's parameters, or of what stands in their place. Asked of the driver before the lock is taken.
struct Parameters {
  static constexpr size_t kMost = 128;
  uint32_t bytes[kMost];
  size_t count = 0;
  bool known = false;
  const void* buffer = nullptr;  // all of them, packed
  size_t buffer_bytes = 0;
};

void AskParameters(const Launch& launch, Parameters* parameters) {
  if (launch.arguments == nullptr && launch.extra != nullptr) {
    for (void** word = launch.extra; *word != CU_LAUNCH_PARAM_END; word += 2) {
      if (*word == CU_LAUNCH_PARAM_BUFFER_POINTER) parameters->buffer = word[1];
      if (*word == CU_LAUNCH_PARAM_BUFFER_SIZE) parameters->buffer_bytes = *static_cast<const size_t*>(word[1]);
    }
    parameters->known = true;
    return;
  }
  parameters->known = KnowsParameters();
  size_t bytes = 0;
  while (parameters->count < Parameters::kMost && ParameterBytes(launch.function, parameters->count, &bytes)) {
    parameters->bytes[parameters->count++] = static_cast<uint32_t>(bytes);
  }
}

void FindUsed(const Launch& launch, const Parameters& parameters, UsedMemory* used) {
  if (!parameters.known) {
    for (const TrackedAllocation& allocation : tracked) used->Add(allocation);
    return;
  }
  if (parameters.buffer != nullptr) return AddPointers(parameters.buffer, parameters.buffer_bytes, used);
  if (launch.arguments == nullptr) return;
  for (size_t i = 0; i < parameters.count; ++i) {
    if (launch.arguments[i] != nullptr) AddPointers(launch.arguments[i], parameters.bytes[i], used);
  }
}

// The part of `changes` that has one of the actions, for this kernel.
uint32_t Wanting(uint32_t changes, std::initializer_list<ApplyAction> actions, const char* kernel) {
  uint32_t wanting = 0;
  ForEachChange(changes, [&](size_t i) {
    const ApplyChange& change = file.change[i];
    if (!change.kernel.empty() && (kernel == nullptr || change.kernel != kernel)) return;
    for (const ApplyAction action : actions) {
      if (change.Has(action)) wanting |= 1u << i;
    }
  });
  return wanting;
}

bool IsThere(const TrackedAllocation& allocation) {
  // Brought since the last wait, and what came since cannot have pushed it out.
  return allocation.on_gpu && allocation.wait_epoch == wait_epoch.load(std::memory_order_relaxed) &&
         (room_bytes == 0 || brought_total - allocation.brought_total < room_bytes);
}

void NoteBrought(uint64_t address, bool brought) {
  const ShortLockGuard guard(lock);
  TrackedAllocation* const allocation = guard ? tracked.At(address) : nullptr;
  if (allocation == nullptr) return;
  allocation->on_gpu = brought;
  allocation->refused = !brought;
  allocation->wait_epoch = wait_epoch.load(std::memory_order_relaxed);
  brought_total += allocation->bytes;
  allocation->brought_total = brought_total;
}

void Refuse(const Used& one) {
  ForEachChange(one.changes, [&](size_t change) { Add(&counts[change].too_large); });
  if (const ShortLockGuard guard(lock); guard) {
    if (TrackedAllocation* const allocation = tracked.At(one.address)) allocation->refused = true;
  }
}

// Room for this memory: what is free, and what remembered memory takes, which the driver may evict for it. The driver
// needs longer for the answer than for a launch, so an answer holds for a while.
uint64_t RoomNow() {
  constexpr uint64_t kHoldsNs = 100'000'000;
  static constinit std::atomic<uint64_t> asked_ns{0};
  static constinit std::atomic<uint64_t> answer{0};
  const uint64_t now_ns = NowNs();
  const uint64_t then_ns = asked_ns.load(std::memory_order_acquire);
  if (then_ns != 0 && now_ns - then_ns < kHoldsNs) return answer.load(std::memory_order_relaxed);
  uint64_t room = 0;
  if (!FreeDeviceBytes(&room)) return UINT64_MAX;
  if (const ShortLockGuard guard(lock); guard) {
    for (const TrackedAllocation& allocation : tracked) room += allocation.on_gpu ? allocation.bytes : 0;
    if (room_bytes == 0) room_bytes = room;
  }
  answer.store(room, std::memory_order_relaxed);
  asked_ns.store(now_ns, std::memory_order_release);
  return room;
}

void Bring(UsedMemory* used, CUstream stream) {
  const int32_t device = ContextDevice();
  uint64_t room = RoomNow();
  for (Used& one : *used) {
    if (!one.bring) continue;
    if (one.bytes > room) {
      Refuse(one);
      continue;
    }
    room -= one.bytes;
    const CUresult result =
        device == kUnknownDevice ? CUDA_ERROR_NOT_SUPPORTED : ApplyPrefetch(one.address, one.bytes, device, stream);
    NoteBrought(one.address, result == CUDA_SUCCESS);
    CountCall(one.changes, ApplyAction::kPrefetchGpu, one.bytes, result);
    CountCall(one.changes, ApplyAction::kPrefetchGpuAhead, one.bytes, result);
  }
}

// Counts show a run that is killed as well.
void TellSometimes() {
  static constinit std::atomic<uint64_t> launches{0};
  const uint64_t count = launches.fetch_add(1, std::memory_order_relaxed) + 1;
  if (count >= 64 && (count & (count - 1)) == 0) TellApply();
}

}  // namespace

void ApplyBeforeLaunch(const Launch& launch, LaunchSequel* sequel) {
  if (!any_tracked.load(std::memory_order_relaxed)) return;
  const InternalWork internal;
  Parameters parameters;
  AskParameters(launch, &parameters);
  bool by_kernel = false;
  for (size_t i = 0; i < file.changes; ++i) by_kernel |= !file.change[i].kernel.empty();
  const char* const kernel = by_kernel ? KernelName(launch.function) : nullptr;

  UsedMemory used;
  bool any_bring = false;
  if (const ShortLockGuard guard(lock); guard) {
    FindUsed(launch, parameters, &used);
    for (Used& one : used) {
      TrackedAllocation& allocation = *tracked.At(one.address);
      const uint32_t bring = Wanting(one.changes, {ApplyAction::kPrefetchGpu, ApplyAction::kPrefetchGpuAhead}, kernel);
      const uint32_t send_back = Wanting(one.changes, {ApplyAction::kPrefetchHost}, kernel);
      const uint32_t ahead = Wanting(one.changes, {ApplyAction::kPrefetchGpuAhead}, kernel);
      one.changes = bring;
      if (allocation.ahead) {
        allocation.ahead = false;
        one.wait_for = allocation.arrived;
      }
      if (bring != 0 && !allocation.refused) {
        one.bring = !IsThere(allocation);
        any_bring |= one.bring;
        if (!one.bring) ForEachChange(bring, [&](size_t change) { Add(&counts[change].suppressed); });
      }
      if (send_back != 0 && !allocation.refused && sequel->send_backs < 8) {
        sequel->send_back[sequel->send_backs++] = one.address;
      }
      if (ahead != 0) {
        TrackedAllocation* const previous = last_used != one.address ? tracked.At(last_used) : nullptr;
        if (previous != nullptr) previous->successor = one.address;
        last_used = one.address;
        sequel->ahead = allocation.successor;
      }
    }
  }
  TellSometimes();
  if (used.empty() || !MayEnqueue(launch.stream)) {
    *sequel = {};
    return;
  }
  const RelaxedCapture relaxed;
  for (const Used& one : used) {
    if (one.wait_for != nullptr) WaitForSideEvent(launch.stream, one.wait_for);
  }
  if (any_bring) Bring(&used, launch.stream);
  if (sequel->ahead == 0) return;

  // What comes next is brought beside this kernel: when the stream has come to this launch, and not before, because
  // what the program has enqueued until now may still move it.
  CUevent event = nullptr;
  bool wanted = false;
  if (const ShortLockGuard guard(lock); guard) {
    TrackedAllocation* const next = tracked.At(sequel->ahead);
    wanted = next != nullptr && !next->refused && !next->ahead && !IsThere(*next) && !no_side_stream;
    if (wanted) event = next->arrived;
  }
  if (wanted && side_stream == nullptr) {
    CUstream const made = MakeSideStream();
    if (const ShortLockGuard guard(lock); guard) {
      if (side_stream == nullptr) side_stream = made;
      no_side_stream = side_stream == nullptr;
    }
  }
  if (wanted && event == nullptr) {
    event = MakeSideEvent();
    if (const ShortLockGuard guard(lock); guard) {
      if (TrackedAllocation* const next = tracked.At(sequel->ahead)) next->arrived = event;
    }
  }
  if (!wanted || side_stream == nullptr || event == nullptr || !RecordSideEvent(event, launch.stream) ||
      !WaitForSideEvent(side_stream, event)) {
    sequel->ahead = 0;
  }
}

void ApplyAfterLaunch(const Launch& launch, bool launched, const LaunchSequel& sequel) {
  if (!launched || (sequel.send_backs == 0 && sequel.ahead == 0)) return;
  const InternalWork internal;
  const RelaxedCapture relaxed;
  for (int i = 0; i < sequel.send_backs; ++i) {
    uint64_t bytes = 0;
    uint32_t changes = 0;
    if (const ShortLockGuard guard(lock); guard) {
      if (TrackedAllocation* const allocation = tracked.At(sequel.send_back[i])) {
        allocation->on_gpu = false;
        bytes = allocation->bytes;
        changes = allocation->changes;
      }
    }
    if (bytes == 0) continue;
    CountCall(changes, ApplyAction::kPrefetchHost, bytes,
              ApplyPrefetch(sequel.send_back[i], bytes, kCpu, launch.stream));
  }
  if (sequel.ahead == 0) return;
  uint64_t bytes = 0;
  uint32_t changes = 0;
  CUevent event = nullptr;
  if (const ShortLockGuard guard(lock); guard) {
    if (const TrackedAllocation* const next = tracked.At(sequel.ahead)) {
      bytes = next->bytes;
      changes = next->changes;
      event = next->arrived;
    }
  }
  if (bytes == 0 || event == nullptr) return;
  const int32_t device = ContextDevice();
  if (device == kUnknownDevice || bytes > RoomNow()) return;
  const CUresult result = ApplyPrefetch(sequel.ahead, bytes, device, side_stream);
  CountCall(changes, ApplyAction::kPrefetchGpuAhead, bytes, result);
  if (result != CUDA_SUCCESS || !RecordSideEvent(event, side_stream)) return;
  NoteBrought(sequel.ahead, true);
  if (const ShortLockGuard guard(lock); guard) {
    if (TrackedAllocation* const next = tracked.At(sequel.ahead)) next->ahead = true;
  }
}

}  // namespace uvmtrace
