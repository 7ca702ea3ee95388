// The part of queue_reader.h that reads what happens to regions: thrashing, throttling, read duplication, remote
// mappings.
#include <algorithm>
#include <bit>

#include "driver/queue_entries.h"
#include "driver/queue_reader.h"

namespace uvmtrace {

// The processors come as a bit mask; an event has room for two. Thrashing: the CPU is the destination if it takes part,
// as CUPTI's records have it. Read duplication: the CPU has the original and the first GPU a copy; of further GPUs with
// a copy nothing is told.
int QueueReader::DecodeMask(const uint8_t* bytes, RegionKind kind, const QueueSink& sink) {
  const auto entry = As<ToolsMaskEntry>(bytes);
  if (!TimeIsGood(entry.time_ns)) return kTime;
  if (!BytesAreGood(entry.bytes)) return kSize;
  if (!AddressIsGood(entry.address)) return kAddress;
  if (entry.processors == 0) return kEnumeration;
  const bool cpu = (entry.processors & 1) != 0;
  int16_t gpus[2] = {static_cast<int16_t>(kUnknownDevice), static_cast<int16_t>(kUnknownDevice)};
  int found = 0;
  for (uint64_t mask = entry.processors & ~uint64_t{1}; mask != 0 && found < 2; mask &= mask - 1) {
    gpus[found++] = Device(static_cast<uint8_t>(std::countr_zero(mask)));
  }
  if (stranger()) return kStranger;
  RegionEvent event;
  event.kind = kind;
  event.start_ns = entry.time_ns;
  event.address = entry.address;
  event.bytes = entry.bytes;
  event.clock = TimeBase::kMonotonicRaw;
  event.source = EventSource::kDriverQueue;
  if (kind == RegionKind::kThrashing) {
    event.source_device = gpus[0];
    event.destination_device = cpu ? static_cast<int16_t>(kCpu) : gpus[1];
    sink.region(sink.context, event);
  } else {
    event.source_device = cpu ? static_cast<int16_t>(kCpu) : gpus[0];
    event.destination_device = cpu ? gpus[0] : gpus[1];
    Grow(event, sink);
  }
  return kGood;
}

int QueueReader::DecodeInvalidate(const uint8_t* bytes, const QueueSink& sink) {
  const auto entry = As<ToolsInvalidateEntry>(bytes);
  if (!TimeIsGood(entry.time_ns)) return kTime;
  if (!BytesAreGood(entry.bytes)) return kSize;
  if (!AddressIsGood(entry.address)) return kAddress;
  RegionEvent event;
  event.kind = RegionKind::kReadDuplicateInvalidate;
  event.start_ns = entry.time_ns;
  event.address = entry.address;
  event.bytes = entry.bytes;
  event.source_device = static_cast<int16_t>(kUnknownDevice);
  event.destination_device = Device(entry.resident);
  if (stranger()) return kStranger;
  event.clock = TimeBase::kMonotonicRaw;
  event.source = EventSource::kDriverQueue;
  Grow(event, sink);
  return kGood;
}

// The start is kept until its end comes. Without room for it, it is told without an end.
int QueueReader::DecodeThrottling(const uint8_t* bytes, bool start, const QueueSink& sink) {
  const auto entry = As<ToolsThrottlingEntry>(bytes);
  if (!TimeIsGood(entry.time_ns)) return kTime;
  if (!AddressIsGood(entry.address)) return kAddress;
  const int16_t device = Device(entry.processor);
  if (stranger()) return kStranger;
  Throttled* free_place = nullptr;
  Throttled* pending = nullptr;
  for (Throttled& one : throttled_) {
    if (one.start_ns == 0) {
      if (free_place == nullptr) free_place = &one;
    } else if (one.address == entry.address && one.processor == entry.processor) {
      pending = &one;
      break;
    }
  }
  if (start && pending != nullptr) return kGood;  // it goes on
  if (start && free_place != nullptr) {
    *free_place = {entry.address, entry.time_ns, entry.processor};
    return kGood;
  }
  RegionEvent event;
  event.kind = RegionKind::kThrottling;
  event.start_ns = pending != nullptr ? pending->start_ns : entry.time_ns;
  event.end_ns = pending != nullptr ? std::max(entry.time_ns, pending->start_ns) : 0;
  event.address = entry.address;
  event.source_device = device;
  event.destination_device = static_cast<int16_t>(kUnknownDevice);
  event.clock = TimeBase::kMonotonicRaw;
  event.source = EventSource::kDriverQueue;
  if (pending != nullptr) pending->start_ns = 0;
  sink.region(sink.context, event);
  return kGood;
}

int QueueReader::DecodeRemoteMap(const uint8_t* bytes, const QueueSink& sink) {
  const auto entry = As<ToolsRemoteMapEntry>(bytes);
  if (!TimeIsGood(entry.time_ns)) return kTime;
  if (!BytesAreGood(entry.bytes)) return kSize;
  if (!AddressIsGood(entry.address)) return kAddress;
  if (entry.cause > kLargestEnumeration) return kEnumeration;
  RegionEvent event;
  event.kind = RegionKind::kRemoteMap;
  event.start_ns = entry.time_ns;
  event.address = entry.address;
  event.bytes = entry.bytes;
  event.source_device = Device(entry.source);
  event.destination_device = Device(entry.destination);
  if (stranger()) return kStranger;
  event.cause = entry.cause;
  event.clock = TimeBase::kMonotonicRaw;
  event.source = EventSource::kDriverQueue;
  sink.region(sink.context, event);
  return kGood;
}

void QueueReader::Grow(const RegionEvent& region, const QueueSink& sink) {
  if (grows_ && growing_.kind == region.kind && growing_.start_ns == region.start_ns &&
      growing_.source_device == region.source_device && growing_.destination_device == region.destination_device &&
      growing_.address + growing_.bytes == region.address) {
    growing_.bytes += region.bytes;
    return;
  }
  EndRegion(sink);
  growing_ = region;
  grows_ = true;
}

void QueueReader::EndRegion(const QueueSink& sink) {
  if (!grows_) return;
  grows_ = false;
  sink.region(sink.context, growing_);
}

}  // namespace uvmtrace
