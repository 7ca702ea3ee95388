// See loss_table.h.
#include "record/loss_table.h"

#include "record/chunk_format.h"

namespace uvmtrace {
namespace {

template <size_t N>
std::string_view Fitting(const char (&)[N], std::string_view text) {
  return {text.data(), text.size() < N ? text.size() : N};
}

}  // namespace

void LossTable::Count(std::string_view source, std::string_view reason, uint64_t count) {
  if (count == 0) return;
  ShortLockGuard guard(lock_);
  if (!guard) {
    uncounted_.fetch_add(count, std::memory_order_relaxed);
    return;
  }
  source = Fitting(rows_[0].source, source);
  reason = Fitting(rows_[0].reason, reason);
  int i = 0;
  for (; i < used_; ++i) {
    const Row& row = rows_[i];
    if (std::string_view(row.source, row.source_bytes) == source &&
        std::string_view(row.reason, row.reason_bytes) == reason) {
      break;
    }
  }
  if (i >= kRows - 1) {
    i = kRows - 1;
    source = "recorder";
    reason = "too many kinds of loss to tell apart";
  }
  Row& row = rows_[i];
  if (i >= used_) {
    if (!source.empty()) memcpy(row.source, source.data(), source.size());
    if (!reason.empty()) memcpy(row.reason, reason.data(), reason.size());
    row.source_bytes = static_cast<uint8_t>(source.size());
    row.reason_bytes = static_cast<uint8_t>(reason.size());
    used_ = i + 1;
  }
  row.pending += count;
}

void LossTable::TakeUncounted() {
  const uint64_t count = uncounted_.exchange(0, std::memory_order_relaxed);
  if (count != 0) Count("recorder", "counted while the table of losses was locked: of what, is not known", count);
}

bool LossTable::HasPending() { return Pending() != 0; }

uint64_t LossTable::Pending() {
  uint64_t pending = uncounted_.load(std::memory_order_relaxed);
  ShortLockGuard guard(lock_);
  if (!guard) return pending;
  for (int i = 0; i < used_; ++i) pending += rows_[i].pending;
  return pending;
}

void LossTable::Append(WireBuffer& out) {
  TakeUncounted();
  ShortLockGuard guard(lock_);
  if (!guard) return AppendUncounted(out);
  for (int i = 0; i < used_; ++i) {
    Row& row = rows_[i];
    row.appended = row.pending;
    if (row.pending == 0) continue;
    const size_t body = out.BeginMessage(chunk_field::kLoss);
    out.String(1, {row.source, row.source_bytes});
    out.String(2, {row.reason, row.reason_bytes});
    out.Unsigned(3, row.pending);
    out.EndMessage(body);
  }
}

// The table's owner does not give it back: the last chunk says at least how much is missing.
void LossTable::AppendUncounted(WireBuffer& out) {
  const uint64_t count = uncounted_.exchange(0, std::memory_order_relaxed);
  const size_t body = out.BeginMessage(chunk_field::kLoss);
  out.String(1, "recorder");
  out.String(2, "the table of losses stayed locked by a thread that was interrupted: losses may be missing");
  out.Unsigned(3, count != 0 ? count : 1);
  out.EndMessage(body);
}

void LossTable::Commit() {
  ShortLockGuard guard(lock_);
  if (!guard) return;
  for (int i = 0; i < used_; ++i) {
    rows_[i].pending -= rows_[i].appended;
    rows_[i].appended = 0;
  }
}

}  // namespace uvmtrace
