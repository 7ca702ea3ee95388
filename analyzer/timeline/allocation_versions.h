// Which allocation lived at an address at a time, for a whole run: 40 bytes for each.
//
// The calls of a run are read before its events, so every allocation's beginning and end are known when the first
// event asks. Records of faults and migrations arrive late and in any order, and addresses are used again: the answer
// depends on the event's own time alone. Versions of one base address stand together, in the order of time.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "analyzer/model/kinds.h"

namespace uvmtrace::analyzer {

struct AllocationVersion {
  static constexpr uint64_t kNever = ~uint64_t{0};
  // The driver moves whole pages, 64 KiB at a time: an event in the padding of an allocation is its own.
  static constexpr uint64_t kGranuleBytes = 64 << 10;

  uint64_t base = 0;
  uint64_t end = 0;
  uint64_t allocated_ns = 0;
  uint64_t freed_ns = kNever;
  uint32_t site = 0;      // index into the sites
  uint32_t account = 0;   // of the events on it: its own, or its site's
  uint32_t followed = 0;  // number of its prefetched memory, from 1; 0: no prefetch is followed
  uint32_t number = 0;    // from 1, in the order of the trace
  MemoryKind kind = MemoryKind::kUnknown;

  // Only unified memory is moved by pages, 64 KiB at a time; other kinds keep to their bytes.
  uint64_t reach() const {
    if (kind != MemoryKind::kManaged) return end;
    const uint64_t rounded = end + kGranuleBytes - 1;
    return rounded < end ? end : rounded - rounded % kGranuleBytes;
  }
};

class AllocationVersions {
 public:
  static constexpr uint32_t kNone = ~uint32_t{0};
  // Times of events and of calls come from different clocks; an event this much after the free, or before the
  // allocation, still belongs to it unless another allocation was there.
  static constexpr uint64_t kClockErrorNs = 1'000'000;

  uint32_t Add(const AllocationVersion& version) {
    versions_.push_back(version);
    return static_cast<uint32_t>(versions_.size() - 1);
  }
  AllocationVersion& operator[](uint32_t version) { return versions_[version]; }
  const AllocationVersion& operator[](uint32_t version) const { return versions_[version]; }
  size_t size() const { return versions_.size(); }

  // After the last Add. Versions keep their indexes.
  void Seal();

  // One reader's place. The versions must outlive it and not change.
  class Finder {
   public:
    explicit Finder(const AllocationVersions* versions) : all_(versions) {}

    // The version that `address` belonged to, or kNone.
    uint32_t Find(uint64_t address, uint64_t time_ns) {
      if (Holds(address, time_ns)) return last_;
      return Search(address, time_ns);
    }
    // Whether this is in the version that the last exact answer was, at a time that it lived.
    bool Holds(uint64_t address, uint64_t time_ns) const {
      return address - base_ < bytes_ && time_ns - since_ns_ < lived_ns_;
    }

    // The same of [address, address + bytes), all of it.
    bool HoldsAll(uint64_t address, uint64_t bytes, uint64_t time_ns) const {
      return Holds(address, time_ns) && bytes <= bytes_ - (address - base_);
    }
    uint32_t last() const { return last_; }

    // Splits [address, address + bytes) among the versions that it touches. Calls on_part(version or kNone, address,
    // bytes) for consecutive parts that add up to the whole.
    template <typename OnPart>
    void Split(uint64_t address, uint64_t bytes, uint64_t time_ns, OnPart on_part) {
      uint32_t version = Find(address, time_ns);
      if (version != kNone && address < all_->versions_[version].end &&
          bytes <= all_->versions_[version].end - address) {
        on_part(version, address, bytes);
        return;
      }
      // Damage that claims huge migrations must not make us walk all allocations for every record.
      parts_left_ = std::min(parts_left_ + kPartsOfRecord, kMaximumParts);
      while (bytes > 0) {
        uint64_t part = bytes;
        const bool may_split = parts_left_ > 0;
        if (may_split) --parts_left_;
        version = may_split ? Find(address, time_ns) : kNone;
        if (may_split) {
          const uint32_t next = NextAfter(address, time_ns);
          if (version != kNone) part = std::min(part, all_->versions_[version].reach() - address);
          if (next != kNone && next != version) {
            const uint64_t next_base = all_->versions_[next].base;
            part = std::min(part, next_base - address);
            // The start of the page that the next allocation begins in.
            if (version == kNone &&
                next_base / AllocationVersion::kGranuleBytes == address / AllocationVersion::kGranuleBytes)
              version = next;
          }
        }
        on_part(version, address, part);
        address += part;
        bytes -= part;
      }
    }

   private:
    static constexpr uint64_t kMaximumParts = 65536;
    static constexpr uint64_t kPartsOfRecord = 8;

    uint32_t Search(uint64_t address, uint64_t time_ns);
    uint32_t NextAfter(uint64_t address, uint64_t time_ns);
    void Remember(uint32_t version);

    const AllocationVersions* all_;
    // Of the last hit.
    uint64_t base_ = 0;
    uint64_t bytes_ = 0;
    uint64_t since_ns_ = 0;
    uint64_t lived_ns_ = 0;
    uint32_t last_ = kNone;
    uint64_t parts_left_ = kMaximumParts;
  };

 private:
  struct Base {
    uint64_t address;
    uint64_t reach;  // of this base's versions and of all bases before it
    uint32_t first;  // into order_
    uint32_t count;
  };

  std::vector<AllocationVersion> versions_;
  std::vector<uint32_t> order_;  // by base, then by time
  std::vector<Base> bases_;
};

}  // namespace uvmtrace::analyzer
