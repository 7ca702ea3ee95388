// A libcupti that does what a test scripts: it answers like the real one, and keeps account of how it was used.
//
// It is a shared object of its own, so that it is found, opened and looked up as the real one is. A test reaches its
// script through FakeCuptiScript(), looked up in the same library.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

struct FakeCupti {
  // How it answers.
  uint32_t version = 130001;
  int configure_result[9] = {};     // by counter kind
  bool configure_replaces = false;  // a call forgets what earlier ones enabled
  int enable_unified_memory_result = 0;
  int enable_kernels_result = 0;
  bool refuse_work = false;  // copies, memsets and waits
  std::atomic<int> flush_result{0};
  std::atomic<bool> flush_hangs{false};
  std::atomic<int64_t> clock_offset_ns{0};
  std::atomic<uint64_t> dropped{0};  // told by the next question

  // How it was used.
  std::atomic<uint32_t> configured_kinds{0};  // bit mask by kind
  std::atomic<bool> unified_memory_enabled{false};
  std::atomic<bool> kernels_enabled{false};
  std::atomic<int> registrations{0};
  std::atomic<int> flushes{0};
  std::atomic<int> forced_flushes{0};
  std::atomic<int> forbidden_calls{0};    // subscribe, disable, finalize
  std::atomic<int> calls_in_callback{0};  // anything but GetNextRecord and GetNumDropped inside a buffer callback
  std::atomic<int> null_buffers{0};
  std::atomic<int> unblocked_signals{0};  // callbacks on a thread of ours that did not block SIGTERM

  // A call of the program's, as cuda or the runtime tells of it: becomes a record where CUPTI was asked for one. The
  // real CUPTI 13.0 gives no record of a call that was switched on alone when a context existed: its kind must be on.
  void (*called)(int kind, uint32_t callback_id, uint32_t thread, uint32_t correlation) = nullptr;
  // Puts a record where the next flush finds it. The size is that of the version's record of this kind.
  void (*queue)(const void* record, size_t bytes) = nullptr;
  // Asks for a buffer as a host thread that launches a kernel does.
  uint8_t* (*request)(size_t* bytes, size_t* max_records) = nullptr;
  void (*complete)(uint8_t* buffer, size_t bytes, size_t valid) = nullptr;
  // Another client calls cuptiFinalize.
  void (*shut_down)() = nullptr;
};

extern "C" FakeCupti* FakeCuptiScript();
