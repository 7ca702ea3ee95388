// Streams and events: what waits for what, and what the host learns of virtual time.
#include <algorithm>

#include "sim/engine/clock.h"
#include "sim/engine/engine.h"

namespace uvmsim {

Stream* Engine::ResolveStream(int device, CUstream handle) {
  if (handle == nullptr || handle == CU_STREAM_LEGACY || handle == CU_STREAM_PER_THREAD) {
    return &gpu(device).default_stream;
  }
  auto* stream = reinterpret_cast<Stream*>(handle);
  Lock lock(&work_mutex_);
  return streams_.count(stream) != 0 ? stream : nullptr;
}

Stream* Engine::CreateStream(int device, unsigned flags, int priority) {
  auto* stream = new Stream;
  stream->flags = flags;
  stream->priority = priority;
  stream->lane = std::make_shared<DeviceQueue::Lane>(device, (flags & CU_STREAM_NON_BLOCKING) == 0, false);
  Lock lock(&work_mutex_);
  stream->id = next_stream_++;
  streams_.insert(stream);
  return stream;
}

bool Engine::DestroyStream(Stream* stream) {
  {
    Lock lock(&work_mutex_);
    if (streams_.erase(stream) == 0) return false;
  }
  // Its work goes on without it; nothing that was submitted refers to it.
  delete stream;
  return true;
}

DeviceQueue::Ticket Engine::Submit(Stream* stream, std::function<void()> work, std::function<void()> complete) {
  DeviceQueue::Work submitted;
  submitted.execute = [this, work = std::move(work), device = stream->lane->device()](double start_ns) {
    device_ = device;
    work_start_ns_ = start_ns;
    demand_ = {};
    work();
    return gpu(device).timeline.Schedule(start_ns, demand_);
  };
  submitted.complete = std::move(complete);
  const DeviceQueue::Ticket ticket = queue_.Submit(stream->lane, std::move(submitted));
  stream->last = ticket;
  return ticket;
}

CUresult Engine::Synchronize(uint32_t type, const Stream* stream, const std::function<CUresult()>& wait) {
  if (!synchronization_records_enabled_) return wait();
  CuptiSynchronizationRecord record = {};
  record.type = type;
  record.stream = stream == nullptr ? 0 : stream->id == 0 ? 7 : stream->id;
  record.start_ns = RealtimeNs();
  const CUresult result = wait();
  record.end_ns = std::max(RealtimeNs(), record.start_ns + 1);
  Lock lock(&work_mutex_);
  record.correlation = next_correlation_++;
  synchronization_records_.push_back(record);
  return result;
}

size_t Engine::ReadSynchronizationRecords(CuptiSynchronizationRecord* records, size_t capacity) {
  Lock lock(&work_mutex_);
  const size_t count = std::min(capacity, synchronization_records_.size());
  std::copy_n(synchronization_records_.begin(), count, records);
  synchronization_records_.erase(synchronization_records_.begin(),
                                 synchronization_records_.begin() + static_cast<ptrdiff_t>(count));
  return count;
}

CUresult Engine::SynchronizeStream(Stream* stream) {
  queue_.Wait(stream->lane, stream->last);
  return Error();
}

CUresult Engine::SynchronizeDevice(int device) {
  queue_.WaitForDevice(device);
  return Error();
}

CUresult Engine::SynchronizeAll() { return SynchronizeDevice(DeviceQueue::kAllDevices); }

CUresult Engine::QueryStream(Stream* stream) {
  if (Error() != CUDA_SUCCESS) return Error();
  if (!queue_.IsComplete(stream->last)) return CUDA_ERROR_NOT_READY;
  queue_.Wait(stream->lane, stream->last);  // it is over: no wait, but the thread has seen it
  return CUDA_SUCCESS;
}

GpuEvent* Engine::CreateEvent(unsigned flags) {
  auto* event = new GpuEvent;
  event->flags = flags;
  Lock lock(&work_mutex_);
  events_.insert(event);
  return event;
}

bool Engine::DestroyEvent(GpuEvent* event) {
  {
    Lock lock(&work_mutex_);
    if (events_.erase(event) == 0) return false;
  }
  delete event;
  return true;
}

CUresult Engine::RecordEvent(GpuEvent* event, Stream* stream) {
  auto recording = std::make_shared<Recording>();
  DeviceQueue::Work work;
  work.execute = [recording](double start_ns) {
    recording->time_ns = start_ns;
    return start_ns;
  };
  Lock lock(&work_mutex_);
  if (events_.count(event) == 0) return CUDA_ERROR_INVALID_HANDLE;
  recording->ticket = queue_.Submit(stream->lane, std::move(work));
  stream->last = recording->ticket;
  event->recording = recording;
  return Error();
}

CUresult Engine::WaitEvent(Stream* stream, GpuEvent* event) {
  std::shared_ptr<Recording> recording;
  {
    Lock lock(&work_mutex_);
    if (events_.count(event) == 0) return CUDA_ERROR_INVALID_HANDLE;
    recording = event->recording;
  }
  if (recording == nullptr) return CUDA_SUCCESS;  // never recorded: nothing to wait for
  DeviceQueue::Work work;
  work.after = recording->ticket;
  work.execute = [recording](double start_ns) { return std::max(start_ns, recording->time_ns.load()); };
  stream->last = queue_.Submit(stream->lane, std::move(work));
  return CUDA_SUCCESS;
}

std::shared_ptr<Recording> Engine::RecordingOf(GpuEvent* event) {
  Lock lock(&work_mutex_);
  return events_.count(event) != 0 ? event->recording : nullptr;
}

CUresult Engine::QueryEvent(GpuEvent* event) {
  if (Error() != CUDA_SUCCESS) return Error();
  const std::shared_ptr<Recording> recording = RecordingOf(event);
  if (recording == nullptr) return CUDA_SUCCESS;
  if (!queue_.IsComplete(recording->ticket)) return CUDA_ERROR_NOT_READY;
  clock_.HostReached(recording->time_ns);
  return CUDA_SUCCESS;
}

CUresult Engine::SynchronizeEvent(GpuEvent* event) {
  if (const std::shared_ptr<Recording> recording = RecordingOf(event)) {
    queue_.WaitForTicket(recording->ticket);
    clock_.HostReached(recording->time_ns);
  }
  return Error();
}

CUresult Engine::ElapsedMilliseconds(GpuEvent* start, GpuEvent* end, float* milliseconds) {
  const std::shared_ptr<Recording> first = RecordingOf(start);
  const std::shared_ptr<Recording> last = RecordingOf(end);
  if (first == nullptr || last == nullptr || ((start->flags | end->flags) & CU_EVENT_DISABLE_TIMING) != 0) {
    return CUDA_ERROR_INVALID_HANDLE;
  }
  if (!queue_.IsComplete(first->ticket) || !queue_.IsComplete(last->ticket)) return CUDA_ERROR_NOT_READY;
  *milliseconds = static_cast<float>((last->time_ns - first->time_ns) / 1e6);
  return CUDA_SUCCESS;
}

}  // namespace uvmsim
