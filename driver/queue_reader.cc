// See queue_reader.h.
#include "driver/queue_reader.h"

#include <string.h>

#include <algorithm>
#include <atomic>

#include "driver/queue_entries.h"

namespace uvmtrace {
namespace {

// A replay that takes longer is none: the GPU's clock was misread.
constexpr uint64_t kLongestReplayNs = 1'000'000'000;

constexpr uint64_t kClockSlackNs = 1'000'000'000;
// One bad entry in 16, after a few: this is no queue.
constexpr uint64_t kFlawsForgiven = 2;
constexpr uint64_t kEntriesPerFlaw = 16;
// A store becomes visible to other processors within microseconds.
constexpr uint64_t kLongestMissingNs = 100'000'000;
// Where an entry of each type has its time, which is never 0.
constexpr uint8_t kTimeAt[kToolsEventCount] = {0,
                                               offsetof(ToolsCpuFaultEntry, time_ns),
                                               offsetof(ToolsMigrationEntry, begin_ns),
                                               offsetof(ToolsGpuFaultEntry, time_ns),
                                               offsetof(ToolsReplayEntry, time_ns),
                                               0,
                                               offsetof(ToolsFatalFaultEntry, time_ns),
                                               offsetof(ToolsMaskEntry, time_ns),
                                               offsetof(ToolsInvalidateEntry, time_ns),
                                               0,
                                               offsetof(ToolsMaskEntry, time_ns),
                                               offsetof(ToolsThrottlingEntry, time_ns),
                                               offsetof(ToolsThrottlingEntry, time_ns),
                                               offsetof(ToolsRemoteMapEntry, time_ns),
                                               0};

uint32_t Load(const uint32_t& word) {
  return std::atomic_ref<uint32_t>(const_cast<uint32_t&>(word)).load(std::memory_order_acquire);
}
void Store(uint32_t& word, uint32_t value) { std::atomic_ref<uint32_t>(word).store(value, std::memory_order_release); }

}  // namespace

const char* QueueReader::FlawText(int flaw) {
  static constexpr const char* kTexts[] = {
      "an unknown type",       "a time that is not near now",   "an impossible size",
      "an impossible address", "an impossible cause or access", "no contents"};
  return kTexts[flaw];
}

const char* QueueReader::EventText(int type) {
  static constexpr const char* kTexts[kToolsEventCount] = {nullptr,
                                                           "CPU fault",
                                                           "migration",
                                                           "GPU fault",
                                                           "replay",
                                                           "fault buffer overflow",
                                                           "fatal fault",
                                                           "read duplication",
                                                           "end of a read duplication",
                                                           "page size change",
                                                           "thrashing",
                                                           "start of a throttling",
                                                           "end of a throttling",
                                                           "remote mapping",
                                                           "eviction"};
  return type > 0 && type < kToolsEventCount ? kTexts[type] : "event of an unknown type";
}

void QueueReader::Attach(uint8_t* ring, uint32_t entries, ToolsControl* control, uint64_t oldest_ns) {
  *this = QueueReader();
  ring_ = ring;
  mask_ = entries - 1;
  control_ = control;
  oldest_ns_ = oldest_ns;
  if (Load(control->put_behind) != 0 || Load(control->put_ahead) != 0 || Load(control->get_behind) != 0) {
    insane_ = "its first indices are not 0";
  }
}

uint32_t QueueReader::Waiting() const { return control_ == nullptr ? 0 : (Load(control_->put_behind) - get_) & mask_; }

uint32_t QueueReader::Drain(uint64_t now_ns, uint32_t limit, const QueueSink& sink) {
  if (control_ == nullptr || insane_ != nullptr) return 0;
  newest_ns_ = now_ns + kClockSlackNs;
  const uint32_t put = Load(control_->put_behind);
  if (put > mask_) {
    insane_ = "the driver's index lies beyond the ring";
    return 0;
  }
  // The driver never writes ours: somebody did.
  if (Load(control_->get_behind) != get_) {
    insane_ = "the reader's index was overwritten";
    return 0;
  }
  const uint32_t count = stranger() ? 0 : std::min((put - get_) & mask_, limit);
  uint32_t done = 0;
  for (uint32_t i = 0; i < count; ++i) {
    uint8_t* const place = ring_ + size_t{get_} * kToolsEntryBytes;
    uint8_t entry[kToolsEntryBytes];
    memcpy(entry, place, sizeof entry);
    int flaw = Decode(entry, sink);
    if (flaw == kStranger) break;
    if (flaw == kNotThereYet) {
      if (!Overdue(now_ns)) break;
      flaw = kEmpty;
    }
    missing_since_ns_ = 0;
    memset(place, 0, kToolsEntryBytes);  // before the driver gets the place back
    get_ = (get_ + 1) & mask_;
    ++done;
    ++read_total_;
    if (flaw == kGood) {
      ++read_[entry[0]];
      continue;
    }
    ++flawed_[flaw];
    if (++flawed_total_ > kFlawsForgiven + read_total_ / kEntriesPerFlaw) insane_ = FlawText(flaw);
    if (insane_ != nullptr) break;
  }
  if (count == 0) {
    EndRegion(sink);
  } else {
    Store(control_->get_ahead, get_);
    Store(control_->get_behind, get_);
  }
  ReadDropped();
  return done;
}

void QueueReader::ReadDropped() {
  for (int type = 0; type < 64; ++type) {
    const uint64_t dropped = std::atomic_ref<uint64_t>(control_->dropped[type]).load(std::memory_order_relaxed);
    if (dropped == dropped_[type]) continue;
    if (dropped < dropped_[type] || type == 0 || type >= kToolsEventCount) {
      insane_ = "the driver's count of dropped events cannot be one";
      return;
    }
    dropped_[type] = dropped;
  }
}

void QueueReader::Finish(const QueueSink& sink) {
  EndRegion(sink);
  for (Throttled& one : throttled_) {
    if (one.start_ns == 0) continue;
    RegionEvent event;
    event.kind = RegionKind::kThrottling;
    event.start_ns = one.start_ns;
    event.address = one.address;
    event.source_device = processors_.device[one.processor];
    event.destination_device = static_cast<int16_t>(kUnknownDevice);
    event.clock = TimeBase::kMonotonicRaw;
    event.source = EventSource::kDriverQueue;
    sink.region(sink.context, event);
    one.start_ns = 0;
  }
}

int16_t QueueReader::Device(uint8_t processor) {
  const int16_t device = processors_.device[processor];
  if (device == kUnknownDevice && !asked_[processor]) stranger_ = processor;
  return device;
}

void QueueReader::SetProcessors(const ProcessorTable& table) {
  const bool changed = memcmp(&processors_, &table, sizeof table) != 0;
  if (changed) memset(asked_, 0, sizeof asked_);
  processors_ = table;
  if (stranger_ >= 0) asked_[stranger_] = true;
  stranger_ = -1;
}

bool QueueReader::Overdue(uint64_t now_ns) {
  if (missing_since_ns_ == 0) missing_since_ns_ = now_ns;
  return now_ns - missing_since_ns_ > kLongestMissingNs;
}

int QueueReader::Decode(const uint8_t* entry, const QueueSink& sink) {
  const uint8_t type = entry[0];
  if (type == 0) return kNotThereYet;
  if (type >= kToolsEventCount) return kType;
  uint64_t time_ns = 0;
  memcpy(&time_ns, entry + kTimeAt[type], sizeof time_ns);
  if (time_ns == 0) return kNotThereYet;
  const auto event = static_cast<ToolsEvent>(type);
  if (event != ToolsEvent::kReadDuplicate && event != ToolsEvent::kReadDuplicateInvalidate) EndRegion(sink);
  switch (event) {
    case ToolsEvent::kMigration:
      return DecodeMigration(entry, sink);
    case ToolsEvent::kGpuFault:
      return DecodeGpuFault(entry, sink);
    case ToolsEvent::kCpuFault:
      return DecodeCpuFault(entry, sink);
    case ToolsEvent::kReplay:
      return DecodeReplay(entry, sink);
    case ToolsEvent::kFatalFault:
      return DecodeFatalFault(entry, sink);
    case ToolsEvent::kReadDuplicate:
      return DecodeMask(entry, RegionKind::kReadDuplicate, sink);
    case ToolsEvent::kThrashing:
      return DecodeMask(entry, RegionKind::kThrashing, sink);
    case ToolsEvent::kReadDuplicateInvalidate:
      return DecodeInvalidate(entry, sink);
    case ToolsEvent::kThrottlingStart:
      return DecodeThrottling(entry, true, sink);
    case ToolsEvent::kThrottlingEnd:
      return DecodeThrottling(entry, false, sink);
    case ToolsEvent::kRemoteMap:
      return DecodeRemoteMap(entry, sink);
    case ToolsEvent::kFaultBufferOverflow:
    case ToolsEvent::kPageSizeChange:
    case ToolsEvent::kEviction:
      return kType;  // never asked for
  }
  return kType;
}

int QueueReader::DecodeMigration(const uint8_t* bytes, const QueueSink& sink) {
  const auto entry = As<ToolsMigrationEntry>(bytes);
  if (!TimeIsGood(entry.begin_ns) || entry.end_ns > newest_ns_) return kTime;
  if (!BytesAreGood(entry.bytes)) return kSize;
  if (!AddressIsGood(entry.address)) return kAddress;
  if (entry.cause > kLargestEnumeration) return kEnumeration;
  MigrationEvent event;
  event.start_ns = entry.begin_ns;
  event.end_ns = entry.end_ns >= entry.begin_ns ? entry.end_ns : 0;
  // Between GPUs it is not told whose clock it is.
  if (entry.source == 0 || entry.destination == 0) {
    GpuClock& clock = gpu_clocks_[entry.source | entry.destination];
    clock.Add(entry.begin_ns, entry.end_ns, entry.begin_gpu_ns, entry.end_gpu_ns);
    clock.Refine(entry.begin_gpu_ns, entry.end_gpu_ns, &event.start_ns, &event.end_ns);
  }
  event.address = entry.address;
  event.bytes = entry.bytes;
  event.source_device = Device(entry.source);
  event.destination_device = Device(entry.destination);
  if (stranger()) return kStranger;
  event.cause = entry.cause;
  event.clock = TimeBase::kMonotonicRaw;
  event.source = EventSource::kDriverQueue;
  if (entry.source == 0 && entry.destination != 0) host_to_device_bytes_ += entry.bytes;
  if (entry.source != 0 && entry.destination == 0) device_to_host_bytes_ += entry.bytes;
  sink.migration(sink.context, event);
  return kGood;
}

int QueueReader::DecodeGpuFault(const uint8_t* bytes, const QueueSink& sink) {
  const auto entry = As<ToolsGpuFaultEntry>(bytes);
  if (!TimeIsGood(entry.time_ns)) return kTime;
  if (!AddressIsGood(entry.address)) return kAddress;
  if (entry.access > kLargestEnumeration || entry.fault_type > kLargestEnumeration) return kEnumeration;
  GpuFaultEvent event;
  event.start_ns = entry.time_ns;
  event.address = entry.address;
  event.batch = entry.batch;
  event.device = Device(entry.gpu);
  if (stranger()) return kStranger;
  event.access = entry.access;
  event.clock = TimeBase::kMonotonicRaw;
  event.source = EventSource::kDriverQueue;
  event.fault_type = entry.fault_type;
  event.client_type = entry.client_type;
  event.gpc = entry.gpc;
  event.client = entry.client;
  sink.gpu_fault(sink.context, event);
  return kGood;
}

int QueueReader::DecodeCpuFault(const uint8_t* bytes, const QueueSink& sink) {
  const auto entry = As<ToolsCpuFaultEntry>(bytes);
  if (!TimeIsGood(entry.time_ns)) return kTime;
  if (!AddressIsGood(entry.address)) return kAddress;
  if (entry.access > kLargestEnumeration) return kEnumeration;
  CpuFaultEvent event;
  event.start_ns = entry.time_ns;
  event.address = entry.address;
  event.pc = entry.pc;
  event.tid = entry.tid;
  event.access = entry.access;
  event.clock = TimeBase::kMonotonicRaw;
  event.source = EventSource::kDriverQueue;
  sink.cpu_fault(sink.context, event);
  return kGood;
}

int QueueReader::DecodeReplay(const uint8_t* bytes, const QueueSink& sink) {
  const auto entry = As<ToolsReplayEntry>(bytes);
  if (!TimeIsGood(entry.time_ns)) return kTime;
  ReplayEvent event;
  event.time_ns = entry.time_ns;
  event.batch = entry.batch;
  event.device = Device(entry.gpu);
  if (stranger()) return kStranger;
  // Replays go to every process that asks for them: this one is of a GPU that is none of ours.
  if (event.device == kUnknownDevice) return kGood;
  // The driver tells when it queued the replay, which the GPU then reaches after the copies of the batch.
  GpuClock& clock = gpu_clocks_[entry.gpu];
  uint64_t queued_ns = entry.time_ns;
  uint64_t reached_ns = 0;
  clock.Add(entry.time_ns, 0, entry.time_gpu_ns, entry.time_gpu_ns);
  clock.Refine(entry.time_gpu_ns, entry.time_gpu_ns, &queued_ns, &reached_ns);
  if (reached_ns > entry.time_ns && reached_ns - entry.time_ns < kLongestReplayNs) event.time_ns = reached_ns;
  event.client_type = entry.client_type;
  sink.replay(sink.context, event);
  return kGood;
}

int QueueReader::DecodeFatalFault(const uint8_t* bytes, const QueueSink& sink) {
  const auto entry = As<ToolsFatalFaultEntry>(bytes);
  if (!TimeIsGood(entry.time_ns)) return kTime;
  if (entry.reason > kLargestEnumeration) return kEnumeration;
  RegionEvent event;
  event.kind = RegionKind::kFatalFault;
  event.start_ns = entry.time_ns;
  event.address = entry.address;  // as the program gave it: it may be anything
  event.source_device = Device(entry.processor);
  event.destination_device = static_cast<int16_t>(kUnknownDevice);
  if (stranger()) return kStranger;
  event.cause = entry.reason;
  event.clock = TimeBase::kMonotonicRaw;
  event.source = EventSource::kDriverQueue;
  sink.region(sink.context, event);
  return kGood;
}

}  // namespace uvmtrace
