// A paging model with the sums of what it did so far, as the model's tests drive it: by what the CPU and the GPU touch.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <vector>

#include "uvm_model/model.h"

namespace uvm_model {

inline constexpr uint64_t kBase = uint64_t{1} << 40;

class Machine {
 public:
  explicit Machine(uint64_t blocks, ModelOptions options = {})
      : model([&] {
          options.device_bytes = blocks * kBlockBytes;
          return options;
        }()) {}

  void Cpu(uint64_t address, uint64_t bytes, Access access) {
    for (uint64_t at = address; at < address + bytes; at += kPageBytes) {
      Outcome outcome;
      model.CpuAccess(at, access, &outcome);
      Take(outcome);
    }
  }
  // A piece at a time, as UvmsimForEachSpan walks.
  void Gpu(uint64_t address, uint64_t bytes, Access access, uint64_t piece = kBigPageBytes) {
    for (uint64_t at = address; at < address + bytes; at += piece) {
      Outcome outcome;
      model.GpuAccess(0, at, std::min(piece, address + bytes - at), access, &outcome);
      ASSERT_FALSE(outcome.invalid);
      ASSERT_FALSE(outcome.out_of_memory);
      Take(outcome);
    }
  }
  void Prefetch(uint64_t address, uint64_t bytes, int destination) {
    Outcome outcome;
    model.Prefetch(address, bytes, destination, &outcome);
    Take(outcome);
  }
  void Advise(uint64_t address, uint64_t bytes, Advice advice, int processor) {
    Outcome outcome;
    model.Advise(address, bytes, advice, processor, &outcome);
    ASSERT_FALSE(outcome.invalid);
    Take(outcome);
  }
  void Reset() { *this->totals() = {}; }

  struct Sums {
    uint64_t host_to_device = 0;
    uint64_t device_to_host = 0;
    uint64_t evicted = 0;
    uint64_t remote = 0;
    uint64_t remote_maps = 0;
    uint64_t gpu_batches = 0;
    uint64_t cpu_faults = 0;
    std::vector<Event> migrations;
    std::vector<ProtectionChange> protections;
    ServiceTime time;
  };
  Sums* totals() { return &sums_; }
  const Sums* operator->() const { return &sums_; }
  // What the CPU may do with a page, as told by the protection changes so far.
  CpuProtection Shown(uint64_t address) const {
    const auto it = shown_.find(address / kPageBytes);
    return it == shown_.end() ? CpuProtection::kNone : it->second;
  }

  Model model;

 private:
  void Take(const Outcome& outcome) {
    for (const Event& event : outcome.events) {
      if (event.kind == EventKind::kMigration) {
        (event.source == kCpu ? sums_.host_to_device : sums_.device_to_host) += event.bytes;
        if (event.cause == static_cast<uint8_t>(MigrationCause::kEviction)) sums_.evicted += event.bytes;
        sums_.migrations.push_back(event);
      }
      if (event.kind == EventKind::kCpuFault) ++sums_.cpu_faults;
      if (event.kind == EventKind::kRemoteMap) sums_.remote_maps += event.bytes;
    }
    for (const Batch& batch : outcome.batches) sums_.gpu_batches += batch.kind == BatchKind::kGpuFaults;
    for (const ProtectionChange& change : outcome.protections) {
      for (uint64_t at = change.address; at < change.address + change.bytes; at += kPageBytes) {
        shown_[at / kPageBytes] = change.protection;
      }
      sums_.protections.push_back(change);
    }
    sums_.remote += outcome.remote_bytes;
    sums_.time += outcome.TotalTime();
  }
  Sums sums_;
  std::map<uint64_t, CpuProtection> shown_;
};

}  // namespace uvm_model
