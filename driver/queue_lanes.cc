// See queue_lanes.h.
#include "driver/queue_lanes.h"

#include <errno.h>
#include <stdio.h>

#include <algorithm>
#include <new>

#include "driver/memory_left.h"
#include "driver/processor_table.h"
#include "driver/tools_advice.h"
#include "record/recorder.h"

namespace uvmtrace {
namespace {

// A replay goes to the queues of every address space: it is asked for in one.
constexpr uint64_t kOncePerProcess = ToolsBit(ToolsEvent::kReplay);
// The first address space gets the large ring, a further one is rare.
constexpr uint32_t kFurtherEntries = ToolsQueue::kMostEntries / 16;
// Entries that are recorded before the writer is given the time to empty our own ring.
constexpr uint32_t kEntriesAtOnce = 32'768;
constexpr int kWriterMs = 500;
constexpr uint64_t kMemoryShare = 8;

uint64_t EventsOf(uint64_t events, size_t lane) { return lane == 0 ? events : events & ~kOncePerProcess; }

// The ring is memory that cannot be swapped out, and is charged to the program's control group: it takes a small part
// of what is left only.
uint32_t EntriesThatFit(uint32_t entries) {
  const uint64_t left = MemoryLeftBytes();
  while (entries > ToolsQueue::kFewestEntries && entries * kToolsEntryBytes > left / kMemoryShare) entries /= 4;
  return entries;
}

}  // namespace

void QueueLanes::Prepare(const ToolsCalls& calls, const DeviceUuid* devices, size_t device_count, const QueueSink& sink,
                         uint32_t* recorded_at_once) {
  calls_ = calls;
  devices_ = devices;
  device_count_ = device_count;
  sink_ = sink;
  recorded_at_once_ = recorded_at_once;
}

ToolsAnswer QueueLanes::FlushLane(size_t lane) {
  const int va_space = va_spaces_.descriptor(lane);
  return va_space < 0 ? ToolsAnswer{EBADF, 0} : FlushEvents(calls_, va_space);
}

// A GPU has one number in the whole driver, but an address space names only the GPUs that use it. Replays come to the
// first one, whichever they belong to: so each lane knows what all of them know.
void QueueLanes::ReadProcessors() {
  ProcessorTable known;
  for (size_t lane = 0; lane < count_; ++lane) {
    ProcessorTable table;
    const int va_space = va_spaces_.descriptor(lane);
    int gpus = 0;
    if (va_space >= 0) ReadProcessorTable(calls_, va_space, devices_, device_count_, &table, &gpus);
    for (size_t i = 0; i < kToolsProcessors; ++i) {
      if (table.device[i] != kUnknownDevice) known.device[i] = table.device[i];
    }
  }
  for (size_t lane = 0; lane < count_; ++lane) lanes_[lane].queue.reader().SetProcessors(known);
}

// A queue on one more address space. False with a reason; the descriptor is then remembered as none, or not.
bool QueueLanes::OpenLane(int va_space, uint32_t entries, uint64_t events, char* reason, size_t reason_size) {
  Lane& lane = lanes_[count_];
  new (&lane) Lane;
  bool wrong_va_space = false;
  if (!lane.queue.Open(calls_, va_space, EntriesThatFit(entries), EventsOf(events, count_), reason, reason_size,
                       &wrong_va_space)) {
    if (wrong_va_space) va_spaces_.Refuse(va_space);
    return false;
  }
  va_spaces_.Accept(va_space);
  ++count_;
  return true;
}

// The self-test that needs no fault: nothing here may touch managed memory to make one. The first entries are tested
// when they come (QueueReader).
bool QueueLanes::TestFirst(char* reason, size_t reason_size) {
  const int va_space = va_spaces_.descriptor(0);
  ProcessorTable table;
  int gpus = 0;
  ToolsAnswer answer{EBADF, 0};
  if (va_space >= 0) answer = ReadProcessorTable(calls_, va_space, devices_, device_count_, &table, &gpus);
  if (!answer.ok()) {
    DescribeRefusal(calls_, "the table of its processors", answer, reason, reason_size);
    return false;
  }
  // A GPU is in it once it has a context; none at all is no contradiction.
  if (gpus > 0 && device_count_ > 0 &&
      std::none_of(table.device + 1, table.device + kToolsProcessors, [](int16_t device) { return device >= 0; })) {
    DescribeUnknownInterface(calls_,
                             "the driver's table of processors has none of CUDA's devices (virtual GPUs are not in it)",
                             reason, reason_size);
    return false;
  }
  lanes_[0].queue.reader().SetProcessors(table);
  answer = FlushLane(0);
  if (!answer.ok()) {
    DescribeRefusal(calls_, "to flush its events", answer, reason, reason_size);
    return false;
  }
  // Indices and counts of what was dropped; the entries themselves are looked at when they are read.
  QueueReader& reader = lanes_[0].queue.reader();
  reader.Drain(MonotonicRawNs(), 0, sink_);
  if (reader.insane() != nullptr) {
    DescribeStrangeQueue(calls_, reader.insane(), reason, reason_size);
    return false;
  }
  return true;
}

bool QueueLanes::Open(uint64_t events, char* reason, size_t reason_size) {
  int found[kMaxVaSpaceDescriptors];
  const size_t found_count = va_spaces_.FindNew(calls_, found, kMaxVaSpaceDescriptors);
  if (found_count == 0) DescribeNoVaSpace(reason, reason_size);
  for (size_t i = 0; i < found_count && !va_spaces_.full(); ++i) {
    if (va_spaces_.IsKnown(found[i])) continue;
    const bool first = count_ == 0;
    const uint32_t entries = first ? ToolsQueue::kMostEntries : kFurtherEntries;
    char further_reason[400];
    if (!OpenLane(found[i], entries, events, first ? reason : further_reason,
                  first ? reason_size : sizeof further_reason)) {
      continue;
    }
    if (first && !TestFirst(reason, reason_size)) return false;
    if (!first) ReadProcessors();
  }
  return count_ > 0;
}

bool QueueLanes::LookForMore(uint64_t events) {
  if (va_spaces_.full()) return false;
  int found[kMaxVaSpaceDescriptors];
  char reason[400];
  const size_t found_count = va_spaces_.FindNew(calls_, found, kMaxVaSpaceDescriptors);
  const size_t before = count_;
  for (size_t i = 0; i < found_count && !va_spaces_.full(); ++i) {
    if (va_spaces_.IsKnown(found[i])) continue;
    if (OpenLane(found[i], kFurtherEntries, events, reason, sizeof reason)) ReadProcessors();
  }
  return count_ != before;
}

void QueueLanes::Close() {
  for (size_t i = 0; i < count_; ++i) lanes_[i].queue.Close();
  count_ = 0;
  va_spaces_.Close();
}

void QueueLanes::Abandon() {
  for (size_t i = 0; i < count_; ++i) lanes_[i].queue.Abandon();
  va_spaces_.Close();
}

bool QueueLanes::TakenAway() const {
  return std::any_of(lanes_, lanes_ + count_, [](const Lane& lane) { return lane.queue.descriptor() < 0; });
}

size_t QueueLanes::Polled(pollfd (&polled)[VaSpaces::kMax]) const {
  for (size_t i = 0; i < count_; ++i) polled[i] = {lanes_[i].queue.descriptor(), POLLIN, 0};
  return count_;
}

uint64_t QueueLanes::Drain(const char** insane) {
  uint64_t read = 0;
  *insane = nullptr;
  for (size_t i = 0; i < count_; ++i) {
    QueueReader& reader = lanes_[i].queue.reader();
    // At most what the ring holds: whoever fills it faster than it is read shall not keep the thread in here.
    uint64_t left = lanes_[i].queue.entries();
    while (left > 0) {
      const uint32_t limit = static_cast<uint32_t>(std::min<uint64_t>(left, kEntriesAtOnce / 4));
      const uint32_t got = reader.Drain(MonotonicRawNs(), limit, sink_);
      read += got;
      left -= got;
      if (reader.stranger()) {
        ReadProcessors();
        continue;
      }
      if (got == 0 || reader.insane() != nullptr) break;
      // The driver's ring is larger than ours, and patient: a flood waits there until the writer has made room.
      if (*recorded_at_once_ >= kEntriesAtOnce) {
        Recorder::Get().Flush(kWriterMs);
        *recorded_at_once_ = 0;
      }
    }
    TellLosses(lanes_[i]);
    if (reader.insane() != nullptr) {
      *insane = reader.insane();
      return read;
    }
  }
  return read;
}

bool QueueLanes::Flush() {
  bool accepted = true;
  for (size_t i = 0; i < count_; ++i) accepted = FlushLane(i).ok() && accepted;
  return accepted;
}

bool QueueLanes::SetEvents(uint64_t events, bool on) {
  bool accepted = true;
  for (size_t i = 0; i < count_; ++i) {
    ToolsQueue& queue = lanes_[i].queue;
    accepted = (on ? queue.Enable(events) : queue.Disable(events)).ok() && accepted;
  }
  return accepted;
}

void QueueLanes::FinishReading() {
  for (size_t i = 0; i < count_; ++i) {
    QueueReader& reader = lanes_[i].queue.reader();
    reader.Finish(sink_);
    const uint32_t waiting = reader.Waiting();
    if (waiting > 0)
      Recorder::Get().CountLoss(kQueueSourceName, "entries still in the queue when it was closed", waiting);
  }
}

uint64_t QueueLanes::MigrationsRead() const {
  uint64_t read = 0;
  for (size_t i = 0; i < count_; ++i) read += lanes_[i].queue.reader().read(ToolsEvent::kMigration);
  return read;
}

uint64_t QueueLanes::Waiting() const {
  uint64_t waiting = 0;
  for (size_t i = 0; i < count_; ++i) waiting += lanes_[i].queue.reader().Waiting();
  return waiting;
}

void QueueLanes::TellLosses(Lane& lane) {
  QueueReader& reader = lane.queue.reader();
  for (int type = 1; type < kToolsEventCount; ++type) {
    const uint64_t lost = reader.dropped(type) - lane.told_dropped[type];
    if (lost == 0) continue;
    lane.told_dropped[type] += lost;
    char reason[160];
    snprintf(reason, sizeof reason, "%s dropped by the driver: its queue was full", QueueReader::EventText(type));
    Recorder::Get().CountLoss(kQueueSourceName, reason, lost);
  }
  for (int flaw = 0; flaw < QueueReader::kFlawCount; ++flaw) {
    const uint64_t lost = reader.flawed(flaw) - lane.told_flawed[flaw];
    if (lost == 0) continue;
    lane.told_flawed[flaw] += lost;
    char reason[160];
    snprintf(reason, sizeof reason, "entry with %s", QueueReader::FlawText(flaw));
    Recorder::Get().CountLoss(kQueueSourceName, reason, lost);
  }
}

}  // namespace uvmtrace
