#include "sim/tool/experiment.h"

#include <algorithm>

#include "sim/engine/timeline.h"

namespace uvmsim {
namespace {

constexpr uint64_t kBase = uint64_t{1} << 40;

// A GPU, its memory, and a program that waits for each piece of work.
class Machine {
 public:
  Machine(const Profile& profile, uint64_t memory_bytes) : profile_(profile), model_(Options(profile, memory_bytes)) {
    outcome_.Reserve();
  }

  void AllocateOnHost(uint64_t address, uint64_t bytes) {
    model_.AddRange(address, bytes);
    outcome_.Clear();
    model_.Prefetch(address, bytes, kCpu, &outcome_);  // populated and mapped there, as by its first touches
  }
  void Advise(uint64_t address, uint64_t bytes, Advice advice, int processor) {
    outcome_.Clear();
    model_.Advise(address, bytes, advice, processor, &outcome_);
  }
  void Prefetch(uint64_t address, uint64_t bytes) {
    outcome_.Clear();
    model_.Prefetch(address, bytes, 0, &outcome_);
    Demand demand;
    demand.AddTransfer(outcome_);
    Finish(demand);
  }
  // A kernel reads the bytes in order; the first 64 KiB of each block that are not there fault.
  void Read(uint64_t address, uint64_t bytes) {
    Demand demand;
    const uint64_t end = address + bytes;
    for (uint64_t at = address; at < end;) {
      const uint64_t block_end = std::min(end, at / kBlockBytes * kBlockBytes + kBlockBytes);
      if (model_.ResidentBytes(0, at, block_end - at) == block_end - at) {
        at = block_end;
        continue;
      }
      const uint64_t piece = std::min(kBigPageBytes, block_end - at);
      if (model_.ResidentBytes(0, at, piece) < piece) {
        outcome_.Clear();
        model_.GpuAccess(0, at, piece, Access::kRead, &outcome_);
        demand.AddFaults(outcome_);
        demand.to_device_ns += static_cast<double>(outcome_.remote_bytes) / profile_.link.in_place;
        CountBytes();
      }
      at += piece;
    }
    demand.memory_ns += static_cast<double>(bytes) / profile_.link.device_memory;
    now_ns_ = timeline_.Schedule(now_ns_, demand);
  }
  void ReadPinned(uint64_t bytes) {
    Demand demand;
    demand.to_device_ns = static_cast<double>(bytes) / profile_.link.in_place;
    Finish(demand);
  }

  double seconds() const { return now_ns_ / 1e9; }
  uint64_t host_to_device_bytes = 0;
  uint64_t device_to_host_bytes = 0;

 private:
  static ModelOptions Options(const Profile& profile, uint64_t memory_bytes) {
    ModelOptions options;
    options.device_bytes = memory_bytes;
    options.cost = profile.cost;
    return options;
  }
  void Finish(const Demand& demand) {
    CountBytes();
    now_ns_ = timeline_.Schedule(now_ns_, demand);
  }
  void CountBytes() {
    for (const Event& event : outcome_.events) {
      if (event.kind != EventKind::kMigration) continue;
      (event.source == kCpu ? host_to_device_bytes : device_to_host_bytes) += event.bytes;
    }
    outcome_.Clear();
  }

  const Profile& profile_;
  Model model_;
  GpuTimeline timeline_;
  Outcome outcome_;
  double now_ns_ = 0;
};

}  // namespace

ExperimentResult RunExperiment(const Profile& profile, Mode mode, uint64_t m, uint64_t k) {
  ExperimentResult result;
  result.chunk_bytes = profile.memory_bytes / k / kBlockBytes * kBlockBytes;
  Machine machine(profile, k * result.chunk_bytes);  // what the division leaves over is no room for a block
  const auto address = [&](uint64_t chunk) { return kBase + chunk * result.chunk_bytes; };
  for (uint64_t chunk = 0; chunk < m; ++chunk) machine.AllocateOnHost(address(chunk), result.chunk_bytes);
  const auto visit = [&](uint64_t first, uint64_t end) {
    for (uint64_t chunk = first; chunk < end; ++chunk) {
      if (mode == Mode::kPrefetch) machine.Prefetch(address(chunk), result.chunk_bytes);
      machine.Read(address(chunk), result.chunk_bytes);
    }
    return machine.seconds();
  };
  result.prefill_seconds = visit(0, std::min(k, m));
  result.first_cycle_seconds = visit(std::min(k, m), m);
  result.second_cycle_seconds = visit(0, m) - result.first_cycle_seconds;
  result.host_to_device_bytes = machine.host_to_device_bytes;
  result.device_to_host_bytes = machine.device_to_host_bytes;
  return result;
}

ReadResult RunReads(const Profile& profile, Placement placement, uint64_t bytes) {
  Machine machine(profile, profile.memory_bytes);
  if (placement != Placement::kPinned) machine.AllocateOnHost(kBase, bytes);
  if (placement == Placement::kRemoteMapped) {
    machine.Advise(kBase, bytes, Advice::kSetPreferredLocation, kCpu);
    machine.Advise(kBase, bytes, Advice::kSetAccessedBy, 0);
  }
  const auto pass = [&] {
    const double before = machine.seconds();
    placement == Placement::kPinned ? machine.ReadPinned(bytes) : machine.Read(kBase, bytes);
    return machine.seconds() - before;
  };
  ReadResult result;
  result.first_pass_seconds = pass();
  result.second_pass_seconds = pass();
  return result;
}

}  // namespace uvmsim
