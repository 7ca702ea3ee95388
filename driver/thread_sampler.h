// The driver's threads as they come and go, and their scheduler times.
//
// A bottom-half thread exists only while some process uses unified memory on its GPU, and a later one may get the tid
// of an earlier one: a thread is known by (tid, start time).
#pragma once

#include <cstddef>
#include <cstdint>

#include "driver/kernel_threads.h"
#include "driver/proc_file.h"
#include "record/recorder.h"

namespace uvmtrace {

class ThreadSampler {
 public:
  void SetRoot(const char* root) { root_ = root; }

  // Looks for threads and tells what was found as the source states "bh_threads" and "tools_event_queue". `live`:
  // whether managed memory exists, so that a bottom-half thread is to be expected.
  void Search(bool live);
  // Whether a search is worth its cost now.
  bool SearchDue(uint64_t now_ns) const { return now_ns >= next_search_ns_; }
  bool HasBottomHalf() const { return CountAlive(ThreadRole::kBottomHalf) > 0; }

  // One sample of every known thread.
  void Sample(uint64_t now_ns);

  void CloseFiles();

 private:
  struct Known {
    FoundThread found;
    bool alive = false;
    bool in_ticks = false;  // no schedstat: CPU time from stat, waiting time not known
    uint64_t id = 0;
    uint32_t openings = 0;
    ProcFile schedstat;
    ProcFile stat;
    char gpu_unknown[256] = {};  // why, if so
  };
  enum class Outcome { kSampled, kVanished, kFailed };

  Outcome ReadTimes(Known& known, ThreadSampleEvent* event);
  bool StillSameThread(Known& known);
  void Learn(const FoundThread& found, size_t bottom_halves);
  void Forget(Known& known);
  void Plan(uint64_t now_ns, uint64_t cost_ns);
  void Tell(const ThreadSearch& search, bool live);
  size_t CountAlive(ThreadRole role) const;

  const char* root_ = "";
  Known known_[kMaxDriverThreads];
  bool ever_bottom_half_ = false;
  uint64_t next_search_ns_ = 0;
  uint32_t searches_in_vain_ = 0;
};

}  // namespace uvmtrace
