// What CUPTI was asked for, what it answered, and its buffers on their way back.
//
// Activity records only: a subscriber (cuptiSubscribe) would exclude a later torch.profiler. No lock is held over any
// call into CUPTI, and in its buffer callbacks only GetNextRecord and GetNumDroppedRecords are called: anything else
// deadlocks.
//
// Another client of the process that registers its own buffer callbacks takes our records with them. Flushing goes on
// working; foreign_client.h finds out by other ways. What can be seen from here is that CUPTI was shut down
// (cuptiFinalize): flushing then fails, and Arm is called again.
#pragma once

#include <atomic>
#include <cstdint>

#include "cupti/counter_kinds.h"
#include "cupti/cupti_api.h"
#include "record/recorder.h"

namespace uvmtrace {

class Collection {
 public:
  struct Options {
    const char* cudart_path;
    bool simulated;
    bool kernels;
    bool launches;  // and waits, beside kernels
    size_t buffer_bytes;
    const char* unified_memory_off;  // null: faults and migrations are wanted; else why not
  };

  // Loads libcupti, registers the callbacks, enables what can be enabled and tells each result as a source state.
  // Returns whether there is anything to drain.
  bool Open(const Options& options);

  // Faults and migrations as well, from now on.
  void AddUnifiedMemory();
  // Whether they are wanted.
  bool unified_memory() const { return unified_memory_off_[0] == '\0'; }

  // Registers, configures and enables; once more after another client shut CUPTI down. Returns whether anything is on.
  bool TakenByAnother() const;
  bool Arm();

  // cuptiActivityFlushAll. Delivered records have been recorded as events when it returns.
  CUptiResult Flush(bool forced) { return api_.ActivityFlushAll(forced ? CUPTI_ACTIVITY_FLAG_FLUSH_FORCED : 0); }

  // Sets the state of "cupti" and of everything below it.
  static void TellAll(SourceStateKind state, const char* reason);
  // The same for what is enabled; what was refused keeps its own reason.
  void TellStopped(const char* reason) const;
  // What CUPTI answered when it was armed last.
  void TellResults() const;
  // Which file, which version.
  const char* description() const { return description_; }

  const CuptiApi& api() const { return api_; }
  uint32_t version() const { return version_; }
  // Unified-memory and kernel records that were delivered so far.
  uint64_t delivered() const { return delivered_.load(std::memory_order_relaxed); }

  // In a forked child: the callbacks go on answering CUPTI, but nothing that they get is recorded.
  void Abandon();

 private:
  static void CUPTIAPI BufferRequested(uint8_t** buffer, size_t* bytes, size_t* max_records);
  static void CUPTIAPI BufferCompleted(CUcontext context, uint32_t stream, uint8_t* buffer, size_t bytes, size_t valid);
  void ReadBuffer(CUcontext context, uint32_t stream, uint8_t* buffer, size_t valid);
  void TellUnavailable(const char* reason) const;
  void EnableUnifiedMemory();
  void EnableWork();
  bool AnythingEnabled() const;
  // Whether kernel records are wanted and their layout is known.
  bool KernelsPossible() const;

  CuptiApi api_;
  uint32_t version_ = 0;
  bool kernels_ = true;
  bool launches_ = false;
  char unified_memory_off_[200] = {};
  CUptiResult counter_results_[kCounterKindCount] = {};
  CUptiResult kernel_result_ = CUPTI_SUCCESS;
  CUptiResult copy_result_ = CUPTI_SUCCESS;
  CUptiResult synchronization_result_ = CUPTI_SUCCESS;
  CUptiResult launch_result_ = CUPTI_SUCCESS;
  char description_[768] = {};
  std::atomic<bool> recording_{false};
  std::atomic<uint64_t> delivered_{0};
};

}  // namespace uvmtrace
