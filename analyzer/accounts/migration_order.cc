#include "analyzer/accounts/migration_order.h"

#include <algorithm>

namespace uvmtrace::analyzer {
namespace {

bool Earlier(const MigratedPart& a, const MigratedPart& b) { return a.time_ns < b.time_ns; }

}  // namespace

void MigrationOrder::Add(const std::vector<MigratedPart>& rows) {
  if (rows.empty()) return;
  // Not by doubling: it would hold twice the window for good.
  if (waiting_.capacity() < waiting_.size() + rows.size())
    waiting_.reserve(waiting_.size() + rows.size() + kWindow / 2);
  waiting_.insert(waiting_.end(), rows.begin(), rows.end());
}

void MigrationOrder::Sort() {
  if (sorted_ == waiting_.size()) return;
  const auto begin = waiting_.begin() + static_cast<std::ptrdiff_t>(first_);
  const auto middle = waiting_.begin() + static_cast<std::ptrdiff_t>(sorted_);
  if (!std::is_sorted(middle, waiting_.end(), Earlier)) std::stable_sort(middle, waiting_.end(), Earlier);
  if (sorted_ > first_ && Earlier(*middle, *(middle - 1))) {
    // Only what is newer than the first new row has to move.
    const auto from = std::upper_bound(begin, middle, *middle, Earlier);
    std::inplace_merge(from, middle, waiting_.end(), Earlier);
  }
  sorted_ = waiting_.size();
}

void MigrationOrder::Release(size_t keep) {
  Sort();
  const size_t waiting = waiting_.size() - first_;
  if (waiting <= keep) return;
  for (size_t end = waiting_.size() - keep; first_ < end; ++first_) {
    const MigratedPart& row = waiting_[first_];
    if (row.time_ns < told_until_ns_) ++late_;
    told_until_ns_ = std::max(told_until_ns_, row.time_ns);
    Apply(row);
  }
  if (first_ >= kWindow / 2 || first_ == waiting_.size()) {
    waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(first_));
    sorted_ -= first_;
    first_ = 0;
  }
}

void MigrationOrder::Apply(const MigratedPart& row) {
  if (row.source >= 0) {
    const LeftBecause because = row.cause == MigrationCause::kEviction ? LeftBecause::kEviction
                                : row.cause == MigrationCause::kUser   ? LeftBecause::kCall
                                                                       : LeftBecause::kTouch;
    blocks_.Leave(row.source, row.memory, row.address, row.bytes, because);
  }
  if (row.destination < 0) return;
  const BlockTable::CameBack came_back = blocks_.Arrive(row.destination, row.memory, row.address, row.bytes);
  uint64_t sum = 0;
  for (const uint64_t bytes : came_back) sum += bytes;
  if (sum == 0) return;
  MemoryActivity& activity = cells_.At(row.cell);
  activity.refaulted_bytes += sum;
  for (size_t i = 0; i < kLeftBecauseCount; ++i) activity.refaulted_after[i] += came_back[i];
}

}  // namespace uvmtrace::analyzer
