// Which instruction of which thread touched managed memory from the CPU, as the driver's queue tells it.
//
// Code is finite, but a program may start a thread for every request: beyond kMaximumSites the rest is counted
// together.
#pragma once

#include <cstddef>
#include <cstdint>
#include <unordered_map>

namespace uvmtrace::analyzer {

class CpuFaultSites {
 public:
  static constexpr size_t kMaximumSites = 65536;

  struct Site {
    uint64_t pc;
    uint32_t tid;
    bool operator==(const Site& other) const { return pc == other.pc && tid == other.tid; }
  };
  struct Hash {
    size_t operator()(const Site& site) const {
      return static_cast<size_t>((site.pc ^ uint64_t{site.tid} << 40) * 0x9e3779b97f4a7c15);
    }
  };

  void Add(uint64_t pc, uint32_t tid) {
    const Site site{pc, tid};
    if (const auto known = faults_.find(site); known != faults_.end()) {
      ++known->second;
    } else if (faults_.size() < kMaximumSites) {
      faults_.emplace(site, 1);
    } else {
      ++others_;
    }
  }

  const std::unordered_map<Site, uint64_t, Hash>& faults() const { return faults_; }
  uint64_t others() const { return others_; }

 private:
  std::unordered_map<Site, uint64_t, Hash> faults_;
  uint64_t others_ = 0;
};

}  // namespace uvmtrace::analyzer
