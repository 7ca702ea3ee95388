#include "analyzer/model/hazards.h"

#include <algorithm>
#include <iterator>

namespace uvmtrace::analyzer {
namespace {

// cudaError_t and CUresult have the same values for these.
enum Result : int32_t {
  kInvalidValue = 1,
  kInvalidDevicePointer = 17,
  kInvalidDevice = 101,
  kInvalidHandle = 400,
  kIllegalAddress = 700,
  kHostMemoryNotRegistered = 713,
  kNotSupported = 801,
};

// Shorter frees waited for nothing that matters.
constexpr uint64_t kShortestWaitingFreeNs = 50'000;
// Chunks are written of all threads at once, but not at one instant.
constexpr uint64_t kChunksToWait = 2;
constexpr uint64_t kBatchShift = 32;      // the upper half of `flags` is the number of copies of a batch
constexpr uint64_t kDiscardFlag = 0x100;  // what is discarded was not to be used

// Errors of this call, not what an earlier one left behind: 700 and the like come back from every call that follows.
bool RefusesTheAddress(int32_t result) {
  return result == kInvalidValue || result == kInvalidDevicePointer || result == kInvalidHandle ||
         result == kHostMemoryNotRegistered;
}

bool IsRelease(Operation operation) { return operation == Operation::kFree || operation == Operation::kUnregister; }

bool WaitsByContract(const MemoryCall& call, MemoryKind kind) {
  return call.operation == Operation::kFree && !call.stream_ordered &&
         (kind == MemoryKind::kDevice || kind == MemoryKind::kManaged);
}

HazardPlace PlaceOf(HazardKind kind, const MemoryCall& call, const Allocation* allocation) {
  HazardPlace place;
  place.kind = kind;
  place.function = call.function;
  place.result = call.result;
  place.stack = call.stack;
  if (allocation != nullptr) {
    place.memory_kind = allocation->kind;
    place.allocation_stack = allocation->stack;
  }
  return place;
}

HazardFinding FindingOf(const MemoryCall& call, uint64_t address, const Allocation* allocation) {
  HazardFinding finding;
  finding.count = 1;
  finding.first_ns = call.start_ns;
  finding.address = address;
  finding.location = call.location;
  if (allocation != nullptr) {
    finding.memory_address = allocation->base;
    finding.memory_bytes = allocation->bytes;
  }
  return finding;
}

// Whether a copy of `call` comes after the free in every order that the GPU could choose.
bool CertainlyAfter(const MemoryCall& call, const Allocation& freed) {
  if (freed.ended_by == EndedBy::kSuccessor || freed.graph_memory) return false;
  if (freed.ended_by != EndedBy::kStreamOrderedFree) return true;
  // Handle 0 may mean each thread's own stream.
  return call.stream == freed.freed_stream && (call.stream > 2 || call.tid == freed.freed_tid);
}

}  // namespace

void HazardTracker::Before(const MemoryCall& call, const Role& role, AllocationTable* table) {
  if (role.begin_capture && !call.failed) ++captures_;
  if (role.end_capture && captures_ > 0) --captures_;
  if (role.get_global && !call.failed && call.address != 0) {
    uint64_t& end = globals_[call.address];
    end = std::max(end, call.address + std::max<uint64_t>(call.bytes, 1));
  }
  if (role.graph_launch) prefetches_.UseAny(call.end_ns);
  const bool is_hint = call.operation == Operation::kPrefetch || call.operation == Operation::kAdvise;
  const bool is_use = call.operation == Operation::kCopy || call.operation == Operation::kSet;
  if (!is_hint && !is_use && !IsRelease(call.operation)) return;
  if (captures_ > 0) {
    ++left_out_in_captures_;
    return;
  }
  if (is_use) {
    ++Checked(HazardKind::kUseAfterFree);
    if (call.flags >> kBatchShift > 1) prefetches_.UseAny(call.end_ns);
    AskAboutUse(call, call.address, table);
    AskAboutUse(call, call.handle, table);
  } else if (is_hint) {
    ++Checked(HazardKind::kRefusedHint);
    const auto occupants = table->At(call.address, call.start_ns);
    const bool managed = occupants.live != nullptr && occupants.live->kind == MemoryKind::kManaged;
    if (managed && !call.failed && call.operation == Operation::kPrefetch) Follow(call, occupants.live);
    if (call.address != 0 && (call.failed || !managed)) questions_.push_back({call, call.address, chunk_});
  } else if (call.address != 0) {
    ++Checked(HazardKind::kDoubleFree);
    ++Checked(HazardKind::kInteriorFree);
    if (call.failed && RefusesTheAddress(call.result)) questions_.push_back({call, call.address, chunk_});
  }
}

void HazardTracker::AskAboutUse(const MemoryCall& call, uint64_t address, AllocationTable* table) {
  if (address == 0) return;
  const auto occupants = table->At(address, call.start_ns);
  if (occupants.live != nullptr) {
    Touch(occupants.live, call.end_ns);
  } else if (occupants.freed != nullptr) {
    questions_.push_back({call, address, chunk_});
  }
}

// A prefetch to the host is used by whatever reads it there, which leaves no trace.
void HazardTracker::Follow(const MemoryCall& call, Allocation* allocation) {
  if (call.location < 0 || (call.flags & kDiscardFlag) != 0 || allocation->graph_memory) return;
  PrefetchUse::Memory& memory = prefetches_.Of(allocation->id);
  if (!allocation->prefetched) {
    allocation->prefetched = true;
    memory.base = allocation->base;
    memory.bytes = allocation->bytes;
    memory.stack = allocation->stack;
    followed_versions_.push_back(allocation->version);
    memory.number = static_cast<uint32_t>(followed_versions_.size());
  }
  memory.last_use_ns = std::max(memory.last_use_ns, allocation->last_touch_ns);
  if (memory.prefetches.size() >= PrefetchUse::kMaximumPrefetches) memory.prefetches.erase(memory.prefetches.begin());
  PrefetchUse::Prefetch prefetch;
  prefetch.start_ns = call.start_ns;
  prefetch.call_ns = call.end_ns - call.start_ns;
  prefetch.bytes = std::min(call.bytes, allocation->end - call.address);
  prefetch.function = call.function;
  prefetch.stack = call.stack;
  prefetch.location = call.location;
  prefetch.number = next_prefetch_;
  memory.prefetches.push_back(prefetch);
}

void HazardTracker::After(const MemoryCall& call, const MemoryLedger& ledger) {
  if (capturing()) return;
  for (const MemoryLedger::Ended& ended : ledger.ended()) {
    const Allocation& allocation = *ended.allocation;
    if (allocation.prefetched && prefetches_.Free(allocation.id, call.start_ns)) {
      ++Checked(HazardKind::kUnusedPrefetch);
    }
  }
  if (ledger.ended().empty() || call.failed || call.stream_ordered) return;
  Release release;
  release.start_ns = call.start_ns;
  release.end_ns = call.end_ns;
  release.unmap = call.operation == Operation::kUnmap;
  const Allocation* allocation = ledger.ended().front().allocation;
  if (allocation->graph_memory || allocation->kind == MemoryKind::kImported) return;
  ++Checked(release.unmap ? HazardKind::kUnmapUnderKernel : HazardKind::kFreeWaited);
  if (release.unmap) {
    for (const MemoryLedger::Ended& ended : ledger.ended()) {
      if (ended.access_devices == 0) continue;
      if (release.access_devices == 0 || ended.accessible_since_ns < release.accessible_since_ns) {
        release.accessible_since_ns = ended.accessible_since_ns;
        allocation = ended.allocation;
      }
      release.access_devices |= ended.access_devices;
    }
    if (release.access_devices == 0) return;  // nothing on a GPU could reach it
  } else if (call.end_ns - call.start_ns < kShortestWaitingFreeNs) {
    return;
  }
  release.waits_by_contract = WaitsByContract(call, allocation->kind);
  release.place = PlaceOf(release.unmap ? HazardKind::kUnmapUnderKernel : HazardKind::kFreeWaited, call, allocation);
  release.memory_address = allocation->base;
  release.memory_bytes = allocation->bytes;
  overlaps_.Add(release);
}

void HazardTracker::AddKernel(const KernelRun& kernel) {
  overlaps_.Add(kernel);
  if (overlaps_.full()) Settle(false);
}

void HazardTracker::EndChunk(AllocationTable* table) {
  ++chunk_;
  const auto due = std::stable_partition(questions_.begin(), questions_.end(), [this](const Question& question) {
    return question.chunk + kChunksToWait < chunk_;
  });
  for (auto question = questions_.begin(); question != due; ++question) Answer(*question, table);
  questions_.erase(questions_.begin(), due);
  if (overlaps_.full() || prefetches_.full()) Settle(false);
}

void HazardTracker::Finish(AllocationTable* table, const std::vector<uint64_t>& last_use_ns,
                           const PrefetchMoved& moved) {
  for (const Question& question : questions_) Answer(question, table);
  questions_.clear();
  prefetches_.Learn(last_use_ns, moved);
  Settle(true);
}

void HazardTracker::Answer(const Question& question, AllocationTable* table) {
  const MemoryCall& call = question.call;
  const auto occupants = table->At(question.address, call.start_ns);
  if (IsRelease(call.operation)) {
    AnswerFailedFree(question, occupants);
  } else if (call.operation == Operation::kPrefetch || call.operation == Operation::kAdvise) {
    AnswerHint(question, occupants);
  } else {
    AnswerUse(question, occupants);
  }
}

void HazardTracker::AnswerFailedFree(const Question& question, const AllocationTable::Occupants& occupants) {
  const MemoryCall& call = question.call;
  const Allocation* memory = occupants.live != nullptr ? occupants.live : occupants.freed;
  // Registered memory is the C library's own, before and after: only unregistering it twice is a mistake.
  if (memory == nullptr || memory->graph_memory || memory->kind == MemoryKind::kPhysical ||
      (memory->kind == MemoryKind::kRegistered) != (call.operation == Operation::kUnregister)) {
    return;
  }
  if (memory->base != question.address) {
    if (occupants.live == nullptr) return;
    AddFinding(PlaceOf(HazardKind::kInteriorFree, call, memory), FindingOf(call, question.address, memory));
    return;
  }
  // Alive: it was refused for another reason, a function for another kind of memory for one.
  if (occupants.live != nullptr || memory->ended_by == EndedBy::kSuccessor) return;
  HazardPlace place = PlaceOf(HazardKind::kDoubleFree, call, memory);
  place.freed_stack = memory->freed_stack;
  place.ended_by = memory->ended_by;
  AddFinding(place, FindingOf(call, question.address, memory));
}

void HazardTracker::AnswerHint(const Question& question, const AllocationTable::Occupants& occupants) {
  const MemoryCall& call = question.call;
  const Allocation* memory = occupants.live;
  if (!call.failed) {
    // Memory with one place to be: nothing can follow from it.
    const bool fixed =
        memory != nullptr && (memory->kind == MemoryKind::kDevice || memory->kind == MemoryKind::kPhysical);
    if (!fixed) return;
  } else if (memory == nullptr && occupants.freed != nullptr && occupants.freed->kind == MemoryKind::kManaged &&
             RefusesTheAddress(call.result) && CertainlyAfter(call, *occupants.freed)) {
    AnswerUse(question, occupants);
    return;
  } else if (!RefusesTheAddress(call.result) && call.result != kInvalidDevice && call.result != kNotSupported) {
    return;
  }
  AddFinding(PlaceOf(HazardKind::kRefusedHint, call, memory), FindingOf(call, question.address, memory));
}

void HazardTracker::AnswerUse(const Question& question, const AllocationTable::Occupants& occupants) {
  const MemoryCall& call = question.call;
  const Allocation* memory = occupants.freed;
  if (occupants.live != nullptr || memory == nullptr || !CertainlyAfter(call, *memory)) return;
  switch (memory->kind) {
    case MemoryKind::kDevice:
    case MemoryKind::kPool:
    case MemoryKind::kPhysical:
      // Addresses of GPUs' own memory: nobody but CUDA gives them out.
      break;
    case MemoryKind::kManaged:
    case MemoryKind::kPinned:
      // The C library may have got the address since: what works is right.
      if (!call.failed) return;
      break;
    default:
      return;
  }
  if (call.failed && !RefusesTheAddress(call.result) && call.result != kIllegalAddress) return;
  const auto global = globals_.upper_bound(question.address);
  if (global != globals_.begin() && question.address < std::prev(global)->second) return;
  HazardPlace place = PlaceOf(HazardKind::kUseAfterFree, call, memory);
  place.freed_stack = memory->freed_stack;
  place.ended_by = memory->ended_by;
  AddFinding(place, FindingOf(call, question.address, memory));
}

void HazardTracker::Settle(bool all) {
  const KernelWindow window = overlaps_.Window();
  overlaps_.Lay(window);
  prefetches_.Lay(window, overlaps_.forgotten_until_ns());
  for (const Release& release : overlaps_.Take(all)) {
    const uint64_t waited_ns = release.WaitedNs(overlaps_.several_devices());
    if (waited_ns == 0) continue;
    HazardFinding finding;
    finding.count = 1;
    finding.first_ns = release.start_ns;
    finding.address = finding.memory_address = release.memory_address;
    finding.memory_bytes = release.memory_bytes;
    finding.kernel = release.kernel;
    finding.time_ns = waited_ns;
    if (release.until_ns > release.end_ns + Release::kClockErrorNs)
      finding.ran_on_ns = release.until_ns - release.end_ns;
    AddFinding(release.place, finding);
  }
  // Faults on prefetched memory are not known before the end.
  if (!all) prefetches_.Shorten();
  for (const PrefetchUse::Memory& memory : all ? prefetches_.Take() : std::vector<PrefetchUse::Memory>{}) {
    for (const PrefetchUse::Prefetch& prefetch : memory.prefetches) {
      HazardPlace place;
      place.kind = HazardKind::kUnusedPrefetch;
      place.function = prefetch.function;
      place.stack = prefetch.stack;
      place.memory_kind = MemoryKind::kManaged;
      place.allocation_stack = memory.stack;
      HazardFinding finding;
      finding.count = 1;
      finding.first_ns = prefetch.start_ns;
      finding.address = finding.memory_address = memory.base;
      finding.memory_bytes = memory.bytes;
      finding.location = prefetch.location;
      finding.bytes = prefetch.bytes;
      finding.moved_bytes = prefetch.moved_bytes;
      finding.time_ns = std::max(prefetch.call_ns, prefetch.moved_ns);
      AddFinding(place, finding);
    }
  }
  overlaps_.ForgetOldKernels();
}

void HazardTracker::AddFinding(const HazardPlace& place, const HazardFinding& finding) {
  auto known = findings_.find(place);
  if (known == findings_.end()) {
    if (findings_.size() >= kMaximumPlaces) {
      ++places_beyond_;
      return;
    }
    findings_.emplace(place, finding);
    return;
  }
  HazardFinding& sum = known->second;
  HazardFinding first = finding.first_ns < sum.first_ns ? finding : sum;
  first.count = sum.count + finding.count;
  first.bytes = sum.bytes + finding.bytes;
  first.moved_bytes = sum.moved_bytes + finding.moved_bytes;
  first.time_ns = sum.time_ns + finding.time_ns;
  first.ran_on_ns = std::max(sum.ran_on_ns, finding.ran_on_ns);
  sum = first;
}

}  // namespace uvmtrace::analyzer
