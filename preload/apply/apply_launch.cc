// What is done before a launch and after it: see apply.h.
#include <stdio.h>
#include <string.h>

#include <initializer_list>

#include "preload/apply/applied_calls.h"
#include "preload/apply/apply.h"
#include "preload/apply/apply_state.h"
#include "preload/base/hooked_thread.h"
#include "record/recorder.h"

namespace uvmtrace {

using namespace apply;

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
