#include "analyzer/model/failed_allocations.h"

#include <algorithm>

#include "analyzer/model/event_values.h"

namespace uvmtrace::analyzer {

void FailedAllocations::Failed(const MemoryCall& call, const MemoryLedger& memory) {
  const std::pair place(call.function, call.stack);
  const auto known = by_place_.find(place);
  if (known != by_place_.end()) {
    FailedAllocation& failed = places_[known->second];
    ++failed.count;
    failed.last_ns = std::max(failed.last_ns, call.start_ns);
    return;
  }
  if (places_.size() >= kMaximumPlaces) return;
  by_place_.emplace(place, places_.size());
  places_.push_back({call, 1, call.start_ns, memory.Held(), memory.SmallDeviceMemory()});
}

void FailedAllocations::AddRecords(const ColumnBatch& batch) {
  using namespace allocation_failures;
  for (size_t row = 0; row < batch.rows && records_.size() < kMaximumRecords; ++row) {
    MemoryAtFailure& record = records_[{static_cast<uint32_t>(batch[kTid][row]), batch[kStart][row]}];
    record.bytes = batch[kBytes][row];
    record.device = DeviceOrdinal(batch[kDevice][row]);
    record.free_bytes = batch[kFreeBytes][row];
    record.total_bytes = batch[kTotalBytes][row];
    record.pool_reserved_bytes = batch[kPoolReservedBytes][row];
    record.pool_used_bytes = batch[kPoolUsedBytes][row];
    record.host_resident_bytes = batch[kHostResidentBytes][row];
    record.host_available_bytes = batch[kHostAvailableBytes][row];
    record.group_limit_bytes = batch[kGroupLimitBytes][row];
    record.group_used_bytes = batch[kGroupUsedBytes][row];
    record.lock_limit_bytes = batch[kLockLimitBytes][row];
    record.address_limit_bytes = batch[kAddressLimitBytes][row];
  }
}

std::optional<MemoryAtFailure> FailedAllocations::RecordOf(const MemoryCall& call) const {
  const auto record = records_.find({call.tid, call.start_ns});
  if (record == records_.end()) return std::nullopt;
  return record->second;
}

}  // namespace uvmtrace::analyzer
