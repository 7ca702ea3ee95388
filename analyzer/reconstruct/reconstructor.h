// Migrations from faults: replays what a trace recorded of GPU faults, CPU faults, rare events and calls through the
// driver's paging policy, and tells what must have moved.
//
// Recording each migration makes the copy engine write a time stamp after every copy, which costs a fault-driven
// program 1.7 times its time. Faults, calls and the driver's exact counters cost 1.02. They hold the same answer,
// because the policy is deterministic: the same faults on the same state move the same pages. What the policy cannot
// know (evictions of blocks that never come back) the counters say. They also say how much of all bytes the answer
// explains.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <unordered_set>
#include <vector>

#include "analyzer/reconstruct/block_table.h"
#include "analyzer/reconstruct/room.h"
#include "analyzer/reconstruct/rows.h"
#include "analyzer/reconstruct/services.h"
#include "analyzer/reconstruct/told_bytes.h"

namespace uvmtrace::reconstruct {

// Memory that takes no part: what happened to it from then until then is left out.
struct LeftOut {
  uint64_t address = 0;
  uint64_t end = 0;
  uint64_t from_ns = 0;
  uint64_t to_ns = 0;
  bool Holds(uint64_t at, uint64_t time_ns) const {
    return at >= address && at < end && time_ns >= from_ns && time_ns <= to_ns;
  }
};

struct Options {
  uvm_model::ServiceOptions service;
  uvm_model::Thrashing::Limits thrashing;
  // Where the rows are not what happened: faults and counters prove nothing then, and the room is as it is given.
  bool hypothetical = false;
  uint64_t room_bytes = Room::kUnknown;
  std::vector<LeftOut> left_out;
  // Called for what each service was about, prefetched pages included. `batch` is 0 for the CPU's.
  std::function<void(int32_t processor, uint64_t time_ns, uint32_t batch, uint64_t base, const uvm_model::PageMask&)>
      on_served;
};

class Reconstructor {
 public:
  using Sink = std::function<void(const Migration&)>;

  Reconstructor(const Options& options, Sink sink);

  void Add(const GpuFault& fault) {
    if (IsLeftOut(fault.address, fault.time_ns)) return;
    ++fault_entries_;
    services_.Add(fault);
  }
  void Add(const Replay& replay) { replays_.push_back(replay); }
  void Add(const CpuFault& fault) {
    if (!IsLeftOut(fault.address, fault.time_ns)) cpu_faults_.push_back(fault);
  }
  void Add(const RareEvent& event) { rare_events_.push_back(event); }
  void Add(const Call& call) {
    calls_.push_back(call);
    attaches_ |= call.kind == CallKind::kAttach;
  }
  // Of use only where memory is attached to a stream; the calls come first.
  void Add(const KernelStart& kernel) {
    if (attaches_) kernels_.push_back(kernel);
  }
  void Add(const CounterSample& sample) { counters_.push_back(sample); }

  // Rows may come in any order. Replays them all; the sink gets the migrations in the order of the replay.
  void Finish();

  struct Statistics {
    uint64_t services = 0;
    uint64_t served_pages = 0;    // that faulted, once for each batch, and that were not there already
    uint64_t served_batches = 0;  // with such a page
    uint64_t cpu_services = 0;
    uint64_t stale_pages = 0;  // faulted pages that the GPU could access already
    uint64_t evicted_blocks = 0;
    uint64_t unexplained_faults = 0;    // on pages that should be accessible, where no eviction can be the reason
    uint64_t devices_beyond_model = 0;  // rows of GPUs that the model has no room for
    uint64_t runs = 0;                  // how often all or a part of the rows was replayed
  };
  const Statistics& statistics() const { return statistics_; }
  // After Finish.
  const CounterCheck& to_device_check() const { return told_[0].to_device_check; }
  const CounterCheck& to_host_check() const { return told_[0].to_host_check; }
  uint64_t fault_entries() const { return fault_entries_; }
  // What managed memory had on a GPU at the end; Room::kUnknown: nothing was evicted for want of room.
  uint64_t RoomBytes(int32_t device) const { return memory_[static_cast<size_t>(device)].room.bytes(); }
  // The most that its blocks had on one GPU.
  uint64_t peak_chunk_bytes() const { return peak_chunk_bytes_; }
  // Of the bytes that the driver counted; 1 if it counted none.
  double ExplainedShare() const;
  Options& options() { return options_; }

 private:
  enum class EventKind : uint8_t { kFree, kCall, kKernel, kService, kCpuFault, kRareEvent, kCounter };
  struct Event {
    uint64_t time_ns = 0;
    EventKind kind = EventKind::kCall;  // also the order of events of the same time
    uint32_t index = 0;                 // into the rows of its kind
  };
  struct Pending {  // a prefetch call whose work a thread of libcuda does later
    uint64_t done_ns = 0;
    uint64_t address = 0;
    uint64_t end = 0;
    int32_t destination = kCpu;
  };

  std::vector<Event> OrderEvents();
  void MarkCountersInCalls();
  // False: the counters contradict the room that a GPU was thought to have. It was corrected: replay again.
  bool Run(const std::vector<Event>& events);
  void Apply(const Event& event);
  // Everything but the rows and what the counters said about the room on the GPUs.
  void Forget();
  void Apply(const Service& service);
  void Apply(const CpuFault& fault);
  void Apply(const RareEvent& event);
  void Apply(const KernelStart& kernel);
  void Apply(const CounterSample& sample, bool in_call);
  void Apply(const Call& call, uint64_t time_ns);

  void Allocate(const Call& call);
  void WriteVariable(uint64_t address, uint64_t end);
  void Free(const Call& call);
  void Prefetch(const Call& call, uint64_t time_ns);
  void Advise(const Call& call);
  void MatchStreams();
  void Migrate(uint64_t begin, uint64_t end, int32_t destination, uint64_t time_ns, uint64_t done_ns);
  void DoPending(size_t count, uint64_t time_ns);
  void CatchUp(const CounterSample& sample);
  void HoldRoomAgainst(const CounterSample& sample, bool in_call, ToldBytes* told);
  void EvictWhatIsMissing(const CounterSample& sample, int32_t device, uint64_t missing, const ToldBytes& told);
  int32_t FullestDevice() const;
  void FinishCounters();
  void CatchUp(TrackedBlock* block, const uvm_model::PageMask& faulted, int32_t faulter, uint64_t time_ns);

  uint64_t EndOfBatch(const Service& service) const;
  const uvm_model::ThrashingView& Thrashing(TrackedBlock* block, uint64_t time_ns);
  // `done_ns`: when the copies are over at the latest.
  void Moved(TrackedBlock* block, uint64_t time_ns, uint64_t done_ns, uint32_t batch);
  void Brought(TrackedBlock* block, int32_t device, const uvm_model::PageMask& pages, uint64_t time_ns,
               uint64_t done_ns);
  void MarkUsed(TrackedBlock* block, int32_t device);
  void MarkUnusedIfEmpty(TrackedBlock* block, int32_t device);
  void FreeChunk(TrackedBlock* block, int32_t device);
  void MakeRoom(const TrackedBlock* keep, int32_t device, uint64_t time_ns, uint64_t done_ns);
  void Evict(TrackedBlock* block, int32_t device, uint64_t time_ns, uint64_t done_ns);
  bool EvictUntil(TrackedBlock* block, int32_t device, uint64_t time_ns);

  bool IsLeftOut(uint64_t address, uint64_t time_ns) const {
    return std::any_of(options_.left_out.begin(), options_.left_out.end(),
                       [=](const LeftOut& memory) { return memory.Holds(address, time_ns); });
  }

  Options options_;
  Sink sink_;
  std::unordered_set<uint64_t> served_batches_;
  uint64_t peak_chunk_bytes_ = 0;
  ServiceBuilder services_;
  uint64_t fault_entries_ = 0;
  std::vector<Service> service_rows_;
  std::vector<Replay> replays_;
  std::vector<CpuFault> cpu_faults_;
  std::vector<RareEvent> rare_events_;
  std::vector<Call> calls_;
  std::vector<CounterSample> counters_;
  std::vector<KernelStart> kernels_;
  bool attaches_ = false;

  Throttles throttles_;
  std::unordered_map<uint64_t, uint64_t> batch_ends_;  // by batch and device
  BlockTable blocks_;
  std::unordered_map<uint64_t, uint64_t> allocations_;         // address to bytes
  std::unordered_map<uint64_t, std::vector<uint64_t>> slabs_;  // 2 MiB number to the small allocations in it
  // Blocks with memory on a GPU, in the driver's order of eviction: first those with nothing resident, then the others
  // from the one that was moved least recently.
  struct DeviceMemory {
    explicit DeviceMemory(int index)
        : unused(index, uvm_model::ChunkList::kUnused), used(index, uvm_model::ChunkList::kUsed) {}
    uvm_model::BlockList unused;
    uvm_model::BlockList used;
    uint64_t chunk_bytes = 0;
    Room room;
  };
  std::vector<DeviceMemory> memory_;
  std::array<uint32_t, uvm_model::kMaxDevices> last_batch_{};
  std::vector<Pending> pending_;
  std::unordered_map<uint64_t, uint64_t> streams_;  // the tools' numbers of streams to the program's handles
  std::map<uint64_t, uint64_t> attached_;           // allocation to handle
  std::vector<uvm_model::Transfer> transfers_;
  std::vector<Migration> rows_;
  std::array<ToldBytes, uvm_model::kMaxDevices + 1> told_;  // of the process, then of each GPU
  std::vector<bool> counter_in_call_;                       // by counters_: taken while a prefetch call ran
  bool counters_by_device_ = false;
  bool may_correct_ = true;
  bool run_again_ = false;
  bool driver_calls_ = false;  // the trace tells of the driver's own calls
  Statistics statistics_;
};

}  // namespace uvmtrace::reconstruct
