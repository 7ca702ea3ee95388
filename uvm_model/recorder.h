// Writes the events and the time of the batch in progress into an Outcome. Internal to the model.
#pragma once

#include "uvm_model/model.h"

namespace uvm_model {

class Model::Recorder {
 public:
  Recorder(BatchKind kind, int processor, const CostModel& cost, Outcome* outcome) : cost_(cost), outcome_(outcome) {
    Batch batch = {};
    batch.kind = kind;
    batch.processor = static_cast<int8_t>(processor);
    batch.first_event = static_cast<uint32_t>(outcome->events.size());
    outcome->batches.push_back(batch);
  }
  Recorder(const Recorder&) = delete;
  Recorder& operator=(const Recorder&) = delete;
  ~Recorder() {
    Batch& batch = this->batch();
    batch.event_count = static_cast<uint32_t>(outcome_->events.size()) - batch.first_event;
    // Nothing happened: prefetch of nothing, advice without effect.
    if (batch.event_count == 0 && batch.time.Total() == 0) outcome_->batches.pop_back();
  }

  Batch& batch() { return outcome_->batches.back(); }
  ServiceTime& time() { return batch().time; }
  const CostModel& cost() const { return cost_; }
  Outcome* outcome() { return outcome_; }

  // What the driver itself does for blocks and pages. A prefetch hides it behind its copies.
  void ChargeArrival(bool was_evicted, bool is_first_use) {
    if (was_evicted) time().return_ns += prefetches() ? cost_.refetch_ns : cost_.refault_ns;
    if (is_first_use && !prefetches()) time().first_touch_ns += cost_.first_touch_ns;
  }
  void ChargePages(int mapped, int others) {
    if (!prefetches()) time().page_ns += mapped * cost_.mapped_page_ns + others * cost_.page_ns;
  }
  void ChargeEviction() {
    if (!prefetches()) time().evict_ns += cost_.evict_ns;
  }

  void Fault(EventKind kind, int processor, uint64_t address, Access access) {
    Event event = Make(kind, address, kPageBytes);
    event.access = access;
    event.source = static_cast<int8_t>(processor);
    outcome_->events.push_back(event);
    ++batch().faults;
  }
  void RemoteMap(int memory, int processor, uint64_t address, uint64_t bytes, RemoteMapCause cause) {
    Event event = Make(EventKind::kRemoteMap, address, bytes);
    event.cause = static_cast<uint8_t>(cause);
    event.source = static_cast<int8_t>(memory);
    event.destination = static_cast<int8_t>(processor);
    outcome_->events.push_back(event);
  }
  void ReadDuplicate(uint8_t processors, uint64_t address, uint64_t bytes) {
    Event event = Make(EventKind::kReadDuplicate, address, bytes);
    event.cause = processors;
    outcome_->events.push_back(event);
  }
  void ReadDuplicateInvalidate(int processor, uint64_t address, uint64_t bytes) {
    Event event = Make(EventKind::kReadDuplicateInvalidate, address, bytes);
    event.destination = static_cast<int8_t>(processor);
    outcome_->events.push_back(event);
  }
  // Accounts the copy's time under evictions' copies or copies.
  void Migration(int source, int destination, uint64_t address, uint64_t bytes, MigrationCause cause) {
    const double bandwidth = source == kCpu        ? cost_.host_to_device_bytes_per_ns
                             : destination == kCpu ? cost_.device_to_host_bytes_per_ns
                                                   : cost_.device_to_device_bytes_per_ns;
    Event event = Make(EventKind::kMigration, address, bytes);
    event.cause = static_cast<uint8_t>(cause);
    event.source = static_cast<int8_t>(source);
    event.destination = static_cast<int8_t>(destination);
    event.duration_ns = cost_.copy_ns + static_cast<double>(bytes) / bandwidth;
    outcome_->events.push_back(event);
    (cause == MigrationCause::kEviction ? time().evict_copy_ns : time().copy_ns) += event.duration_ns;
  }

 private:
  Event Make(EventKind kind, uint64_t address, uint64_t bytes) {
    Event event = {};
    event.kind = kind;
    event.address = address;
    event.bytes = bytes;
    event.batch = static_cast<uint32_t>(outcome_->batches.size() - 1);
    event.start_ns = time().Total();
    return event;
  }

  bool prefetches() const { return outcome_->batches.back().kind == BatchKind::kPrefetch; }

  const CostModel& cost_;
  Outcome* outcome_;
};

}  // namespace uvm_model
