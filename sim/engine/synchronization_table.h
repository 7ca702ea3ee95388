// What libcupti learns from libcuda about waits: it finds the table by dlsym("uvmsim_synchronization_table").
#pragma once

#include <cstddef>
#include <cstdint>

namespace uvmsim {

// A wait; the types are CUpti_ActivitySynchronizationType's.
struct CuptiSynchronizationRecord {
  static constexpr uint32_t kEvent = 1, kStreamWaitsForEvent = 2, kStream = 3, kContext = 4;
  uint32_t type;
  uint32_t stream;
  uint64_t start_ns;
  uint64_t end_ns;
  uint32_t correlation;
};

struct SynchronizationTable {
  void (*enable)(bool enabled);
  size_t (*read)(CuptiSynchronizationRecord* records, size_t capacity);
};

}  // namespace uvmsim
