// Named intervals over time, flattened: which names were running at an instant.
//
// Kernels of a GPU and phases of a program are intervals that may overlap. Events are many and are attributed by
// look-up, so the overlaps are worked out once: Seal cuts time where the set of running names changes. A set is an
// index into the names that it holds, so that an event costs one comparison when it falls where the last one fell.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

namespace uvmtrace::analyzer {

// Distinct sets of names. Set 0 is empty. Shared by the indexes of all GPUs, so that a set means the same on each.
class NameSets {
 public:
  // More than these are not told apart: further sets are the set kOthers.
  static constexpr size_t kMaximumSets = size_t{1} << 18;
  static constexpr uint32_t kNone = 0;
  static constexpr uint32_t kOthers = 1;

  NameSets() : sets_(2) {}

  uint32_t Intern(const std::vector<uint32_t>& names);
  const std::vector<uint32_t>& names(uint32_t set) const { return sets_[set]; }
  size_t size() const { return sets_.size(); }

 private:
  std::vector<std::vector<uint32_t>> sets_;
  std::map<std::vector<uint32_t>, uint32_t> known_;
};

class IntervalIndex {
 public:
  // Of those that run at once, this many names share an event.
  static constexpr size_t kMaximumShared = 16;

  void Add(uint64_t start_ns, uint64_t end_ns, uint32_t name) {
    if (end_ns > start_ns) intervals_.push_back({start_ns, end_ns, name});
  }
  size_t intervals() const { return intervals_.size(); }

  // After the last Add. Forgets the single intervals.
  void Seal(NameSets* sets);

  // Merges neighbours of one name until at most `maximum` are left: short gaps between them are lost.
  void Coarsen(size_t maximum);

  // Where one reader of events is. Cheap to copy; the index must outlive it.
  class Cursor {
   public:
    Cursor() = default;
    explicit Cursor(const IntervalIndex* index) : index_(index) {}

    // Whether the last answer holds then too.
    bool Holds(uint64_t time_ns) const { return time_ns - start_ns_ < length_ns_; }
    uint32_t SetAt(uint64_t time_ns) {
      if (Holds(time_ns)) return set_;
      return Move(time_ns);
    }

   private:
    uint32_t Move(uint64_t time_ns);

    const IntervalIndex* index_ = nullptr;
    uint64_t start_ns_ = 0;
    uint64_t length_ns_ = 0;
    uint32_t set_ = 0;
  };

  // Time of [from, until) in which at least one was running.
  uint64_t CoveredNs(uint64_t from_ns, uint64_t until_ns) const;

 private:
  struct Interval {
    uint64_t start_ns;
    uint64_t end_ns;
    uint32_t name;
  };
  // From here to the next one.
  struct Segment {
    uint64_t start_ns;
    uint32_t set;
  };

  std::vector<Interval> intervals_;
  std::vector<Segment> segments_;
};

}  // namespace uvmtrace::analyzer
