// Which instruction of which thread touched which memory from the CPU, as the driver's queue tells it.
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
    uint64_t pc = 0;
    uint32_t tid = 0;
    uint32_t account = 0;  // of the memory
    bool operator==(const Site& other) const { return pc == other.pc && tid == other.tid && account == other.account; }
  };
  struct Hash {
    size_t operator()(const Site& site) const {
      const uint64_t hash = (site.pc ^ uint64_t{site.tid} << 40) * 0x9e3779b97f4a7c15;
      return static_cast<size_t>((hash ^ hash >> 32 ^ site.account) * 0xbf58476d1ce4e5b9);
    }
  };

  void Add(const Site& site, uint64_t faults = 1) {
    if (last_ != nullptr && site == last_site_) {
      *last_ += faults;
      return;
    }
    auto known = faults_.find(site);
    if (known == faults_.end()) {
      if (faults_.size() >= kMaximumSites) {
        others_ += faults;
        return;
      }
      known = faults_.emplace(site, 0).first;
    }
    known->second += faults;
    // Nodes of the map stay where they are.
    last_site_ = site;
    last_ = &known->second;
  }
  void Add(const CpuFaultSites& other) {
    for (const auto& [site, faults] : other.faults_) Add(site, faults);
    others_ += other.others_;
  }

  CpuFaultSites() = default;
  CpuFaultSites(const CpuFaultSites& other) : faults_(other.faults_), others_(other.others_) {}
  CpuFaultSites& operator=(const CpuFaultSites& other) {
    faults_ = other.faults_;
    others_ = other.others_;
    last_ = nullptr;
    return *this;
  }

  const std::unordered_map<Site, uint64_t, Hash>& faults() const { return faults_; }
  uint64_t others() const { return others_; }

 private:
  std::unordered_map<Site, uint64_t, Hash> faults_;
  uint64_t others_ = 0;
  Site last_site_;
  uint64_t* last_ = nullptr;
};

}  // namespace uvmtrace::analyzer
