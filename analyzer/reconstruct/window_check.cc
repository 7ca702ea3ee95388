#include "analyzer/reconstruct/window_check.h"

#include <algorithm>
#include <unordered_map>

namespace uvmtrace::reconstruct {
namespace {

// The copies of one prefetch call begin while the call runs, and are told at its end.
constexpr uint64_t kApartNs = 250'000'000;

uint64_t Overlap(const Migration& a, const Migration& b) {
  const uint64_t begin = std::max(a.address, b.address);
  const uint64_t end = std::min(a.address + a.bytes, b.address + b.bytes);
  return end > begin ? end - begin : 0;
}

uint64_t BlockOf(const Migration& row) { return row.address / uvm_model::kBlockBytes; }

}  // namespace

void WindowCheck::Finish(const std::vector<Migration>& told) {
  std::unordered_map<uint64_t, std::vector<uint32_t>> by_block;  // of told rows, in the order of time
  for (const RecordedMigration& row : recorded_) by_block[BlockOf(row)];
  for (size_t i = 0; i < told.size(); ++i) {
    const auto block = by_block.find(BlockOf(told[i]));
    if (block != by_block.end()) block->second.push_back(static_cast<uint32_t>(i));
  }
  for (const RecordedMigration& row : recorded_) {
    const std::vector<uint32_t>& rows = by_block[BlockOf(row)];
    const uint64_t from_ns = row.time_ns > kApartNs ? row.time_ns - kApartNs : 0;
    uint64_t agreed = 0;
    for (auto next = std::lower_bound(rows.begin(), rows.end(), from_ns,
                                      [&told](uint32_t i, uint64_t time_ns) { return told[i].time_ns < time_ns; });
         next != rows.end() && told[*next].time_ns <= row.time_ns + kApartNs && agreed < row.bytes; ++next) {
      const Migration& other = told[*next];
      if (other.source == row.source && other.destination == row.destination) agreed += Overlap(row, other);
    }
    bytes_ += row.bytes;
    agreed_bytes_ += std::min(agreed, row.bytes);
    if (agreed < row.bytes && (since_ns_ == 0 || row.time_ns < since_ns_)) since_ns_ = row.time_ns;
  }
}

}  // namespace uvmtrace::reconstruct
