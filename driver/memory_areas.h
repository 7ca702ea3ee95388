// Memory that CUDA did not allocate, where the GPU reaches it (HMM, ATS): which mapping of the process an address of a
// fault or migration lies in.
//
// The driver reports addresses; the process's heap, stacks, files and anonymous mappings come and go without passing
// any door. So /proc/self/maps is read again while events come, and a mapping is defined in the trace when an event hit
// it. A reader of the trace takes the newest definition that is not later than the event. Where the GPU's memory is a
// NUMA node (Grace), /proc/self/numa_maps tells on which nodes the pages of such a mapping are. For one thread, the
// queue's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "record/memory.h"
#include "record/recorder.h"
#include "record/wire.h"

namespace uvmtrace {

class MemoryAreas {
 public:
  // `root` stands before /proc in tests. Without Start nothing is looked at.
  void Start(const char* root);
  bool started() const { return hit_blocks_ != nullptr; }

  // An event hit this address. Cheap: a 2 MiB block is remembered once for each look at the maps.
  void Hit(uint64_t address);
  // Looks at the maps if something was hit and the last look is long ago.
  void Update(uint64_t now_ns);
  // Looks at them if anything was hit since the last time.
  void Finish();

  // Parses one line of /proc/self/maps. False if it is none, or if the driver's own descriptors map it.
  static bool ParseLine(std::string_view line, MemoryAreaDefinition* area);
  // Parses one line of /proc/self/numa_maps: where it starts, and its bytes on each node. Returns how many nodes; at
  // most `capacity`.
  static size_t ParseNodes(std::string_view line, uint64_t* start, NodeBytes* nodes, size_t capacity);

 private:
  static constexpr size_t kMaxNodes = 64;
  static constexpr size_t kHitSlots = 4096;
  static constexpr uint64_t kLookPeriodNs = 250'000'000;

  struct Defined {
    uint64_t start;
    uint64_t end;
    uint64_t hash;  // of its name, and of where its pages are
  };

  void Look();
  void Define(const MemoryAreaDefinition& area);
  // The line of numa_maps for the mapping that starts at `start`. Asked for rising addresses after `rest` was set to
  // the whole text.
  static std::string_view NodeLine(uint64_t start, std::string_view* rest);

  char path_[128] = {};
  char nodes_path_[128] = {};
  bool gpu_is_node_ = false;
  uint64_t* hit_blocks_ = nullptr;  // by block number; 0 is free
  size_t hits_ = 0;
  uint64_t last_look_ns_ = 0;
  WireBuffer text_{16 << 20};
  WireBuffer nodes_text_{16 << 20};
  GrowableArray<Defined> defined_{1 << 20};
};

}  // namespace uvmtrace
