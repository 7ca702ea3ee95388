#include "sim/engine/driver_tools.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "sim/engine/engine.h"
#include "sim/engine/lacks.h"

namespace uvmsim {
namespace {

// What a thread's name holds of "UVM Tools Event Queue".
constexpr char kThreadName[] = "UVM Tools Event";

// How long a descriptor stays readable after its reader has caught up, as nobody tells us of that.
constexpr uint64_t kReadableCheckNs = 500'000;

// NV_PROCESSOR_UUID_CPU_DEFAULT.
constexpr uint8_t kCpuUuid[16] = {0xa6, 0x5e, 0x0f, 0x4e, 0xd7, 0xd4, 0x7b, 0xa2,
                                  0x50, 0x47, 0x41, 0x2c, 0x14, 0x2a, 0x77, 0x73};

// "GPU-75766d73-696d-...": the bytes in the order of the text.
void ParseUuid(const std::string& text, uint8_t (&uuid)[16]) {
  size_t at = 0;
  for (size_t i = 4; i + 1 < text.size() && at < sizeof uuid;) {
    if (text[i] == '-') {
      ++i;
      continue;
    }
    uuid[at++] = static_cast<uint8_t>(strtoul(text.substr(i, 2).c_str(), nullptr, 16));
    i += 2;
  }
}

}  // namespace

DriverTools& DriverTools::Get() {
  static auto* const tools = new DriverTools;
  return *tools;
}

int DriverTools::OpenDevice() {
  if (forgotten_) {
    errno = ENODEV;
    return -1;
  }
  if (IsLacking(Lack::kDeviceNode) || IsLacking(Lack::kQueuePermission)) {
    errno = IsLacking(Lack::kDeviceNode) ? ENOENT : EACCES;
    return -1;
  }
  auto tracker = std::make_unique<EventTracker>();
  const int descriptor = tracker->Open();
  if (descriptor < 0) return -1;
  Lock lock(&mutex_);
  RemoveOrphansLocked();
  trackers_.push_back(std::move(tracker));
  return descriptor;
}

size_t DriverTools::FindVaSpaces(int* descriptors, size_t capacity) {
  if (forgotten_) return 0;
  Lock lock(&mutex_);
  if (capacity == 0 || va_space_ < 0 || !IsVaSpaceLocked(va_space_)) return 0;
  descriptors[0] = va_space_;
  return 1;
}

int DriverTools::Control(int descriptor, unsigned long number, void* data) {
  if (data == nullptr || forgotten_) {
    errno = forgotten_ ? ENODEV : EFAULT;
    return -1;
  }
  Lock lock(&mutex_);
  if (EventTracker* tracker = FindLocked(descriptor)) {
    if (IsLacking(Lack::kBranch)) return errno = EINVAL, -1;
    const uint32_t status = ControlLocked(&lock, tracker, number, data);
    return status == UINT32_MAX ? (errno = EINVAL, -1) : 0;
  }
  if (!IsVaSpaceLocked(descriptor)) {
    errno = fcntl(descriptor, F_GETFD) < 0 ? EBADF : ENOTTY;
    return -1;
  }
  switch (number) {
    case kGetProcessorUuidTable: {
      auto* argument = static_cast<UuidTableArgument*>(data);
      argument->status = argument->table == 0 ? kStatusInvalidAddress : kStatusOk;
      if (argument->table != 0) memcpy(reinterpret_cast<void*>(argument->table), uuids_, sizeof uuids_);
      return 0;
    }
    case kFlushEvents:
      FlushLocked(&lock);
      static_cast<FlushArgument*>(data)->status = kStatusOk;
      return 0;
    default:
      errno = EINVAL;
      return -1;
  }
}

// No kernel hears it, so it fails: what it asks for is done by the engine.
void DriverTools::Migrate(uint64_t address, uint64_t bytes, int destination) {
  MigrateArgument argument{};
  argument.base = address;
  argument.length = bytes;
  argument.cpu_numa_node = -1;
  int descriptor = -1;
  if (FindVaSpaces(&descriptor, 1) == 0) return;
  memcpy(argument.destination, uuids_[destination + 1], sizeof argument.destination);
  const int saved_errno = errno;
  ioctl(descriptor, kMigrate, &argument);
  errno = saved_errno;
}

// The status, which is also in the argument; UINT32_MAX for a number that this device does not know.
uint32_t DriverTools::ControlLocked(Lock* lock, EventTracker* tracker, unsigned long number, void* data) {
  switch (number) {
    case kInitEventTracker: {
      auto* argument = static_cast<InitEventTrackerArgument*>(data);
      return argument->status = InitializeLocked(lock, tracker, *argument);
    }
    case kInitEventTrackerV2:
      return static_cast<InitEventTrackerArgument*>(data)->status = kStatusNotSupported;
    case kSetNotificationThreshold: {
      auto* argument = static_cast<ThresholdArgument*>(data);
      if (!tracker->is_queue()) return argument->status = kStatusInvalidArgument;
      tracker->SetThreshold(argument->threshold);
      changed_.NotifyAll();
      return argument->status = kStatusOk;
    }
    case kEnableEvents:
    case kDisableEvents: {
      auto* argument = static_cast<FlagsArgument*>(data);
      const bool valid = number == kDisableEvents || (argument->flags & ~kToolsValidEvents) == 0;
      if (!tracker->is_queue() || !valid) return argument->status = kStatusInvalidArgument;
      tracker->enabled =
          number == kEnableEvents ? tracker->enabled | argument->flags : tracker->enabled & ~argument->flags;
      UpdateEnabledLocked();
      return argument->status = kStatusOk;
    }
    case kEnableCounters:
    case kDisableCounters: {
      auto* argument = static_cast<FlagsArgument*>(data);
      if (!tracker->is_counters()) return argument->status = kStatusInvalidArgument;
      tracker->enabled =
          number == kEnableCounters ? tracker->enabled | argument->flags : tracker->enabled & ~argument->flags;
      UpdateEnabledLocked();
      return argument->status = kStatusOk;
    }
    default:
      return UINT32_MAX;
  }
}

uint32_t DriverTools::InitializeLocked(Lock* lock, EventTracker* tracker, const InitEventTrackerArgument& argument) {
  if (!IsVaSpaceLocked(static_cast<int>(argument.va_space_descriptor))) return kStatusInsufficientPermissions;
  // The driver refuses memory of its own; ours would lose what is in it.
  Engine* const engine = Engine::Get();
  if (engine != nullptr && (engine->OwnsAddress(argument.queue) || engine->OwnsAddress(argument.control))) {
    return kStatusInvalidArgument;
  }
  const uint32_t status = tracker->Initialize(argument);
  if (status != kStatusOk || !tracker->is_queue()) return status;
  if (kept_ == nullptr) kept_ = std::make_unique<ToolsEntry[]>(kKeptBack);
  return StartThreadLocked(lock) ? kStatusOk : kStatusNoMemory;
}

void DriverTools::AddVaSpace(const std::vector<std::string>& gpu_uuids, void (*thread_started)(int tid)) {
  int ends[2];
  const bool made = pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0;
  Lock lock(&mutex_);
  if (made) {
    close(ends[1]);
    va_space_ = ends[0];
    fstat(va_space_, &va_space_status_);
  }
  memcpy(uuids_[kToolsCpu], kCpuUuid, sizeof kCpuUuid);
  for (size_t i = 0; i < gpu_uuids.size() && i + 1 < kToolsProcessors; ++i) ParseUuid(gpu_uuids[i], uuids_[i + 1]);
  thread_started_ = thread_started;
}

EventTracker* DriverTools::FindLocked(int descriptor) {
  struct stat status;
  if (fstat(descriptor, &status) != 0) return nullptr;
  for (const auto& tracker : trackers_) {
    if (tracker->Is(status)) return tracker.get();
  }
  return nullptr;
}

bool DriverTools::IsVaSpaceLocked(int descriptor) {
  struct stat status;
  return va_space_ >= 0 && fstat(descriptor, &status) == 0 && status.st_dev == va_space_status_.st_dev &&
         status.st_ino == va_space_status_.st_ino;
}

void DriverTools::RemoveOrphansLocked() {
  const auto gone = [](const std::unique_ptr<EventTracker>& tracker) { return tracker->Orphaned(); };
  const auto first = std::remove_if(trackers_.begin(), trackers_.end(), gone);
  if (first == trackers_.end()) return;
  trackers_.erase(first, trackers_.end());
  UpdateEnabledLocked();
}

void DriverTools::UpdateEnabledLocked() {
  enabled_events_ = 0;
  bool counters = false;
  for (const auto& tracker : trackers_) {
    if (tracker->is_queue()) enabled_events_ |= tracker->enabled;
    counters |= tracker->is_counters() && tracker->enabled != 0;
  }
  active_ = counters || enabled_events_ != 0;
}

bool DriverTools::StartThreadLocked(Lock* lock) {
  if (running_) return true;
  running_ = true;
  // Without the lock: starting a thread may call whatever the host has put in its way.
  mutex_.Unlock();
  const bool started = StartThread(kThreadName, &DriverTools::Run, this);
  mutex_.Lock();
  running_ = started;
  while (started && !visible_) changed_.Wait(lock);
  return started;
}

void DriverTools::DeliverLocked() {
  for (; ready_ != 0; --ready_, --count_) {
    const ToolsEntry& entry = kept_[first_];
    for (const auto& tracker : trackers_) tracker->Enqueue(entry);
    first_ = (first_ + 1) % kKeptBack;
    ++delivered_;
  }
}

void DriverTools::FlushLocked(Lock* lock) {
  const uint64_t target = delivered_ + count_;
  ready_ = count_;
  changed_.NotifyAll();
  while (running_ && delivered_ < target) changed_.Wait(lock);
}

void* DriverTools::Run(void* self_pointer) {
  auto* self = static_cast<DriverTools*>(self_pointer);
  pthread_setname_np(pthread_self(), kThreadName);  // before anybody can look for it
  self->thread_started_(gettid());
  Lock lock(&self->mutex_);
  self->visible_ = true;
  self->changed_.NotifyAll();
  for (;;) {
    const bool delivers = self->ready_ != 0;
    self->RemoveOrphansLocked();  // here, as a Report must not call free
    self->DeliverLocked();
    bool readable = false;
    for (const auto& tracker : self->trackers_) readable |= tracker->UpdateReadable();
    if (delivers) self->changed_.NotifyAll();
    if (readable) {
      self->changed_.WaitFor(&lock, kReadableCheckNs);
    } else {
      self->changed_.Wait(&lock);
    }
  }
  return nullptr;
}

DriverTools::Report::Report(DriverTools* tools) : tools_(tools), lock_(&tools->mutex_) {}

DriverTools::Report::~Report() {
  if (tools_->running_) tools_->changed_.NotifyAll();
}

void DriverTools::Report::Now(const ToolsEntry& entry) {
  for (const auto& tracker : tools_->trackers_) tracker->Enqueue(entry);
}

void DriverTools::Report::Progress() { tools_->ready_ = tools_->count_; }

void DriverTools::Report::Later(const ToolsEntry& entry) {
  if (!Wants(static_cast<ToolsEventType>(entry.type))) return;
  if (tools_->count_ == kKeptBack) {
    // The GPU cannot have stood still for so long.
    Progress();
    tools_->DeliverLocked();
  }
  tools_->kept_[(tools_->first_ + tools_->count_++) % kKeptBack] = entry;
}

void DriverTools::Report::Count(ToolsCounter counter, uint64_t amount, uint8_t processor, bool in_total) {
  for (const auto& tracker : tools_->trackers_) tracker->Count(counter, amount, tools_->uuids_[processor], in_total);
}

}  // namespace uvmsim
