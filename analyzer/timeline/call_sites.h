// Calls that concern memory, by the line that made them and the memory that they were about.
#pragma once

#include <cstdint>
#include <map>
#include <tuple>
#include <vector>

#include "analyzer/read/chunk.h"

namespace uvmtrace::analyzer {

struct CallSiteKey {
  static constexpr uint32_t kNoSite = ~uint32_t{0};

  uint32_t function = 0;
  uint32_t stack = 0;
  uint32_t target = kNoSite;     // site of the memory
  uint32_t other_end = kNoSite;  // of a copy: site of the memory that is not `target`
  bool from_target = false;      // of a copy: `target` is read
  int32_t location = 0;          // of a prefetch or advice
  uint32_t detail = 0;           // advice; direction of a copy

  bool operator<(const CallSiteKey& other) const {
    return std::tie(function, stack, target, other_end, from_target, location, detail) <
           std::tie(other.function, other.stack, other.target, other.other_end, other.from_target, other.location,
                    other.detail);
  }
};

struct CallSiteSums {
  CallSiteKey key;
  Operation operation = Operation::kOther;
  uint64_t count = 0;
  uint64_t failures = 0;
  uint64_t bytes = 0;  // of calls that succeeded
  uint64_t total_ns = 0;
  // Of prefetch calls.
  uint64_t followed = 0;  // whose migrations were laid on them
  uint64_t moved_bytes = 0;
  uint64_t without_effect = 0;
};

class CallSiteTable {
 public:
  // Beyond so many, calls are told apart by function alone.
  static constexpr size_t kMaximumSites = 16384;

  uint32_t Of(CallSiteKey key, Operation operation) {
    if (has_last_ && !(key < last_key_) && !(last_key_ < key)) return last_;
    auto known = by_key_.find(key);
    if (known == by_key_.end() && by_key_.size() >= kMaximumSites) {
      key = {key.function};
      known = by_key_.find(key);
    }
    if (known == by_key_.end()) {
      known = by_key_.emplace(key, static_cast<uint32_t>(sites_.size())).first;
      sites_.emplace_back();
      sites_.back().key = key;
      sites_.back().operation = operation;
    }
    has_last_ = true;
    last_key_ = known->first;
    last_ = known->second;
    return last_;
  }
  CallSiteSums& operator[](uint32_t site) { return sites_[site]; }
  const std::vector<CallSiteSums>& sites() const { return sites_; }

 private:
  std::map<CallSiteKey, uint32_t> by_key_;
  std::vector<CallSiteSums> sites_;
  bool has_last_ = false;
  CallSiteKey last_key_;
  uint32_t last_ = 0;
};

}  // namespace uvmtrace::analyzer
