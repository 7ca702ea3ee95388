#include "analyzer/accounts/service_batches.h"

#include <algorithm>

namespace uvmtrace::analyzer {
namespace {

// Replays without faults of ours are mostly other programs' on the same GPU.
constexpr size_t kMaximumEarlyReplays = 65536;

}  // namespace

// A batch is on a few cells. Damage may name one batch for everything, so more than a few are put together by sorting,
// and only when they have doubled.
void ServiceBatches::AddShares(Batch* batch, const BatchShare* shares, size_t count) {
  constexpr size_t kFew = 16;
  for (size_t i = 0; i < count; ++i) {
    const auto end = batch->shares.end();
    const auto known = std::find_if(batch->shares.size() > kFew ? end - kFew : batch->shares.begin(), end,
                                    [&](const BatchShare& share) { return share.cell == shares[i].cell; });
    if (known != end) {
      known->faults += shares[i].faults;
    } else {
      batch->shares.push_back(shares[i]);
    }
  }
  if (batch->shares.size() < std::max(batch->sort_at, 4 * kFew)) return;
  std::sort(batch->shares.begin(), batch->shares.end(),
            [](const BatchShare& a, const BatchShare& b) { return a.cell < b.cell; });
  size_t kept = 0;
  for (size_t i = 1; i < batch->shares.size(); ++i) {
    if (batch->shares[i].cell == batch->shares[kept].cell) {
      batch->shares[kept].faults += batch->shares[i].faults;
    } else {
      batch->shares[++kept] = batch->shares[i];
    }
  }
  batch->shares.resize(kept + 1);
  batch->sort_at = 2 * batch->shares.size();
}

void ServiceBatches::AddFaults(uint32_t number, uint64_t first, uint64_t entries, const BatchShare* shares,
                               size_t share_count, Cells* cells) {
  Batch* batch = nullptr;
  if (const auto known = by_number_.find(number); known != by_number_.end()) {
    batch = &open_[known->second];
    batch->first = std::min(batch->first, first);
  } else {
    if (open_.size() >= 2 * kOpenBatches) CloseOlderHalf(cells);
    by_number_[number] = static_cast<uint32_t>(open_.size());
    batch = &open_.emplace_back();
    batch->number = number;
    batch->first = first;
    if (const auto early = early_replays_.find(number); early != early_replays_.end()) {
      // One before the fault is another program's, of the last time that this number was used.
      if (early->second.last >= first) {
        batch->last = early->second.last;
        batch->replays = early->second.count;
      }
      early_replays_.erase(early);
    }
  }
  batch->entries += entries;
  AddShares(batch, shares, share_count);
}

void ServiceBatches::AddReplay(uint32_t number, uint64_t time) {
  const auto known = by_number_.find(number);
  if (known == by_number_.end()) {
    if (early_replays_.size() >= kMaximumEarlyReplays) early_replays_.clear();
    Replay& early = early_replays_[number];
    early.last = std::max(early.last, time);
    ++early.count;
    return;
  }
  Batch& batch = open_[known->second];
  ++batch.replays;
  batch.last = std::max(batch.last, time);
}

void ServiceBatches::AddFaultsUntil(uint64_t start, uint64_t end, uint64_t records, const BatchShare* shares,
                                    size_t share_count, Cells* cells) {
  // Records arrive a little out of order: the newest batches are looked through.
  constexpr size_t kSearched = 128;
  Batch* batch = nullptr;
  for (size_t i = open_.size(), searched = 0; i-- > 0 && searched < kSearched; ++searched) {
    if (!open_[i].by_end || end - open_[i].last + kEndToleranceNs > 2 * kEndToleranceNs) continue;
    batch = &open_[i];
    batch->first = std::min(batch->first, start);
    break;
  }
  if (batch == nullptr) {
    if (open_.size() >= 2 * kOpenBatches) CloseOlderHalf(cells);
    batch = &open_.emplace_back();
    batch->first = start;
    batch->last = end;
    batch->by_end = true;
  }
  batch->entries += records;
  AddShares(batch, shares, share_count);
}

void ServiceBatches::CloseOlderHalf(Cells* cells) {
  std::sort(open_.begin(), open_.end(), [](const Batch& a, const Batch& b) { return a.first < b.first; });
  const size_t half = open_.size() / 2;
  for (size_t i = 0; i < half; ++i) Close(open_[i], cells);
  open_.erase(open_.begin(), open_.begin() + static_cast<std::ptrdiff_t>(half));
  by_number_.clear();
  for (size_t i = 0; i < open_.size(); ++i) {
    if (!open_[i].by_end) by_number_[open_[i].number] = static_cast<uint32_t>(i);
  }
}

bool ServiceBatches::AnyEnd() const {
  return closed_.service.length() > 0 ||
         std::any_of(open_.begin(), open_.end(), [](const Batch& batch) { return batch.last != 0; });
}

void ServiceBatches::Finish(Cells* cells) {
  std::sort(open_.begin(), open_.end(), [](const Batch& a, const Batch& b) { return a.first < b.first; });
  for (const Batch& batch : open_) Close(batch, cells);
  open_.clear();
  by_number_.clear();
}

void ServiceBatches::Close(const Batch& batch, Cells* cells) {
  ++closed_.batches;
  closed_.entries += batch.entries;
  closed_.replays += batch.replays;
  if (!batch.by_end) {
    closed_.sizes.Add(batch.entries);
    size_t bucket = 0;
    while (bucket + 1 < BatchStatistics::kSizeBuckets && (uint64_t{1} << bucket) < batch.entries) ++bucket;
    ++closed_.size_buckets[bucket];
    if (batch.replays == 0) ++closed_.without_replay;
  }
  if (batch.last == 0 || batch.last < batch.first) return;
  if (!batch.by_end) closed_.service_ns.Add(batch.last - batch.first);
  closed_.service.Add(batch.first, batch.last);
  const uint64_t from = std::max(batch.first, served_until_);
  served_until_ = std::max(served_until_, batch.last);
  if (batch.last <= from || batch.entries == 0) return;
  const double each = static_cast<double>(batch.last - from) / static_cast<double>(batch.entries);
  for (const BatchShare& share : batch.shares) cells->At(share.cell).gpu_waited_ns += each * share.faults;
}

}  // namespace uvmtrace::analyzer
