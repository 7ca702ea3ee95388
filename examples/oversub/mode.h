// A mode is one way to bring a chunk onto the GPU. The experiment drives every mode through this interface, so a
// further way is one more class and one more row in modes.cc.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "examples/oversub/plan.h"

namespace oversub {

// Bytes that a mode must move, counted while it runs: exact for copies and for prefetches of whole chunks; for page
// faults what a driver moves that fetches each byte of a chunk once. What really moved is the tracer's to say.
struct Traffic {
  uint64_t host_to_device_bytes = 0;
  uint64_t device_to_host_bytes = 0;
  uint64_t in_place_bytes = 0;  // of chunks that the GPU used where they are, on the host: no migration shows them
};

class Mode {
 public:
  virtual ~Mode() = default;

  // Allocates everything. Outside all timers: page-locking a gigabyte can take longer than moving it.
  virtual void Allocate() = 0;

  // Seconds of Allocate() that went into page-locking host memory.
  virtual double pinning_seconds() const { return 0; }

  // Where the host writes the chunk at the start and reads it at the end.
  virtual uint64_t* HostView(uint64_t chunk) = 0;

  // Enqueues whatever must happen before a kernel may use the chunk; returns where the kernel finds it. The experiment
  // waits for the stream after each chunk, so no chunk that is still in use is ever evicted.
  virtual uint64_t* BringIn(uint64_t chunk) = 0;

  // The kernel on the last chunk is enqueued, and `chunk` will be next: a mode that looks ahead starts to move it.
  virtual void LookAhead(uint64_t chunk) { (void)chunk; }

  // The host is about to use the chunk: its HostView() must be current.
  virtual void TakeBack(uint64_t chunk) = 0;

  // Makes every HostView() current.
  virtual void FlushToHost() = 0;

  const Traffic& traffic() const { return traffic_; }

 protected:
  Traffic traffic_;
};

// In the order in which --mode all runs them.
std::vector<std::string> ModeNames();
bool IsManagedMode(const std::string& name);
std::unique_ptr<Mode> MakeMode(const std::string& name, const Plan& plan, cudaStream_t stream);

enum class HostKind { kPageable, kPinned, kPinnedAhead };
std::unique_ptr<Mode> MakeManualMode(const Plan& plan, cudaStream_t stream, HostKind kind);

enum class Fetch { kFaults, kPrefetch, kPrefetchAhead };
enum class Advice { kNone, kReadMostly, kPreferHost, kPreferGpu };
std::unique_ptr<Mode> MakeManagedMode(const Plan& plan, cudaStream_t stream, Fetch fetch, Advice advice);

}  // namespace oversub
