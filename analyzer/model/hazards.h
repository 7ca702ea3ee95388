// Calls that endanger the program or waste its time: what was found, and how many calls were looked at.
//
// A false alarm is worse than a missing one, so a finding needs the trace's word for everything that it claims: a
// double free is a call that failed; a use after a free hits memory that nothing else can own; a free waited if it did
// not return before the kernel that it found running. What cannot be decided (another stream's order, a captured graph,
// memory that the C library may own by now) is left out. The records that decide come late and from several threads, so
// a question about an address is answered two chunks after it arose, and one about kernels when they must all have
// come.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <vector>

#include "analyzer/model/allocation_table.h"
#include "analyzer/model/hazard_place.h"
#include "analyzer/model/kernel_overlaps.h"
#include "analyzer/model/memory_ledger.h"
#include "analyzer/model/prefetch_use.h"
#include "analyzer/timeline/prefetch_calls.h"

namespace uvmtrace::analyzer {

struct HazardFinding {
  uint64_t count = 0;
  uint64_t first_ns = 0;
  // Of the first one.
  uint64_t address = 0;
  uint64_t memory_address = 0;  // of the allocation; 0: none is known
  uint64_t memory_bytes = 0;
  uint32_t kernel = 0;  // id of its name
  int32_t location = 0;
  // Of all.
  uint64_t bytes = 0;        // prefetched for nothing
  uint64_t moved_bytes = 0;  // the part of it that really moved
  uint64_t time_ns = 0;      // that calls waited or, prefetched for nothing, took
  uint64_t ran_on_ns = 0;    // the longest that a kernel ran on after its memory was unmapped
};

class HazardTracker {
 public:
  static constexpr size_t kMaximumPlaces = 4096;

  struct Role {
    bool stream_ordered_free = false;
    bool graph_launch = false;
    bool begin_capture = false;
    bool end_capture = false;
    bool get_global = false;
  };

  // Whether stream capture was under way: what is called then does not happen.
  bool capturing() const { return captures_ > 0; }

  // Every call, in the order of time, before the ledger knows it.
  void Before(const MemoryCall& call, const Role& role, AllocationTable* table);
  // The same call, afterwards.
  void After(const MemoryCall& call, const MemoryLedger& ledger);
  // The number in PrefetchCalls of the prefetch call that Before gets next.
  void NextPrefetch(uint32_t number) { next_prefetch_ = number; }
  // Versions of allocations whose prefetches are followed, by the number of the memory less one.
  const std::vector<uint32_t>& followed_versions() const { return followed_versions_; }
  void AddKernel(const KernelRun& kernel);
  void EndChunk(AllocationTable* table);
  // Of what others look for.
  void AddFinding(const HazardPlace& place, const HazardFinding& finding);
  void Looked(HazardKind kind, uint64_t count) { Checked(kind) += count; }
  // After the events: when followed memory was last used, by its number, and what prefetch calls moved.
  void Finish(AllocationTable* table, const std::vector<uint64_t>& last_use_ns, const PrefetchMoved& moved);

  const std::map<HazardPlace, HazardFinding>& findings() const { return findings_; }
  // Calls looked at; of kUnusedPrefetch: prefetched allocations that were freed; of kTouchUnderKernel: the CPU's
  // faults.
  uint64_t checked(HazardKind kind) const { return checked_[static_cast<size_t>(kind)]; }
  uint64_t left_out_in_captures() const { return left_out_in_captures_; }
  uint64_t places_beyond() const { return places_beyond_; }  // findings that found no room

 private:
  // A call whose address may have meant something else than it seems by now.
  struct Question {
    MemoryCall call;
    uint64_t address;
    uint64_t chunk;
  };

  void Follow(const MemoryCall& call, Allocation* allocation);
  void AskAboutUse(const MemoryCall& call, uint64_t address, AllocationTable* table);
  void Answer(const Question& question, AllocationTable* table);
  void AnswerFailedFree(const Question& question, const AllocationTable::Occupants& occupants);
  void AnswerHint(const Question& question, const AllocationTable::Occupants& occupants);
  void AnswerUse(const Question& question, const AllocationTable::Occupants& occupants);
  void Settle(bool all);
  void Touch(Allocation* allocation, uint64_t time_ns) {
    if (time_ns > allocation->last_touch_ns) allocation->last_touch_ns = time_ns;
    if (allocation->prefetched) prefetches_.Use(allocation->id, time_ns);
  }
  uint64_t& Checked(HazardKind kind) { return checked_[static_cast<size_t>(kind)]; }

  std::map<HazardPlace, HazardFinding> findings_;
  std::array<uint64_t, kHazardKindCount> checked_{};
  std::map<uint64_t, uint64_t> globals_;  // address -> end: memory of modules, which no call allocates
  std::vector<Question> questions_;
  KernelOverlaps overlaps_;
  PrefetchUse prefetches_;
  std::vector<uint32_t> followed_versions_;
  uint32_t next_prefetch_ = PrefetchCalls::kNone;
  uint64_t chunk_ = 0;
  uint64_t captures_ = 0;
  uint64_t left_out_in_captures_ = 0;
  uint64_t places_beyond_ = 0;
};

}  // namespace uvmtrace::analyzer
