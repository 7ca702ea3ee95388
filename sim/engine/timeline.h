// When work runs on the virtual clock: what it needs of a GPU, and what else needs the same at that time.
//
// Pure: no threads, no real clock. The engine schedules streams with it, and `uvmsim table` whole experiments.
#pragma once

#include <algorithm>
#include <iterator>
#include <map>

#include "sim/engine/paging_model.h"

namespace uvmsim {

// One thing that does one piece of work at a time. Work that comes later may use a gap that earlier work has left.
class Resource {
 public:
  // Takes the first free interval of that length at or after `start`; returns its end.
  double Reserve(double start, double duration_ns) {
    if (duration_ns <= 0) return start;
    auto next = busy_.upper_bound(start);
    if (next != busy_.begin()) start = std::max(start, std::prev(next)->second);
    while (next != busy_.end() && next->first < start + duration_ns) {
      start = next->second;
      ++next;
    }
    const double end = start + duration_ns;
    // Merged with its neighbours, so that the map holds the gaps and no more.
    double begin = start;
    double merged_end = end;
    if (next != busy_.end() && next->first <= end) {
      merged_end = next->second;
      next = busy_.erase(next);
    }
    if (next != busy_.begin() && std::prev(next)->second >= start) {
      std::prev(next)->second = merged_end;
    } else {
      busy_.emplace_hint(next, begin, merged_end);
    }
    if (busy_.size() > kMostGaps) busy_.erase(busy_.begin());  // nobody looks that far back
    return end;
  }

 private:
  static constexpr size_t kMostGaps = 1024;
  std::map<double, double> busy_;  // begin -> end; neighbours do not touch
};

// What a piece of work needs. Its parts overlap, except that device memory is read when its pages have come.
struct Demand {
  double service_ns = 0;    // the bottom half: batches of faults, one after the other, with their copies
  double transfer_ns = 0;   // a chain of copies that does not need the bottom half
  double to_device_ns = 0;  // the link, each way: migrations, copies, reads and writes in place
  double to_host_ns = 0;
  double peer_ns = 0;       // the link between GPUs
  double memory_ns = 0;     // device memory
  double throttled_ns = 0;  // the driver lets the GPU wait, because its pages thrash

  // The link's part in what the driver did.
  void AddCopies(const Outcome& outcome) {
    for (const Event& event : outcome.events) {
      if (event.kind != EventKind::kMigration) continue;
      (event.source == kCpu ? to_device_ns : event.destination == kCpu ? to_host_ns : peer_ns) += event.duration_ns;
    }
  }
  // Faults of a kernel or of a copy engine.
  void AddFaults(const Outcome& outcome) {
    service_ns += outcome.TotalTime().Total();
    AddCopies(outcome);
  }
  // A prefetch.
  void AddTransfer(const Outcome& outcome) {
    transfer_ns += outcome.TotalTime().Total();
    AddCopies(outcome);
  }
};

// One GPU: two directions of its link, and the thread that services its faults. Its compute units are not scarce.
class GpuTimeline {
 public:
  // Work that may begin at `start`; returns its end.
  double Schedule(double start, const Demand& demand) {
    double end = start + demand.transfer_ns;
    end = std::max(end, bottom_half_.Reserve(start, demand.service_ns));
    end = std::max(end, to_device_.Reserve(start, demand.to_device_ns));
    end = std::max(end, to_host_.Reserve(start, demand.to_host_ns));
    end = std::max(end, peer_.Reserve(start, demand.peer_ns));
    return end + demand.memory_ns + demand.throttled_ns;
  }

 private:
  Resource bottom_half_;
  Resource to_device_;
  Resource to_host_;
  Resource peer_;
};

}  // namespace uvmsim
