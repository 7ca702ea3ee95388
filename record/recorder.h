// The one way from a fact in the host process to the trace file.
//
//   host thread or source --Record--> its own ring --> writer thread --> chunk --> write(2)
//
// One Recorder lives in a process, in static storage, and is never destroyed: the host's threads may call into it while
// the process is being torn down. Record() is wait-free: it copies words into the calling thread's ring and never
// allocates except for that thread's first event (one mmap). A full ring loses the event and counts it. Everything else
// (encoding, interning of stacks, mappings, definitions, file) happens in the writer thread, which blocks all signals.
//
// The library links without libstdc++: nothing here may throw, allocate with operator new or need a guard variable.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "record/event.h"
#include "record/os/clocks.h"
#include "record/os/futex.h"

namespace uvmtrace {

struct FunctionDefinition {
  uint16_t id;  // from 1
  const char* name;
  Layer layer;
  Operation operation;
};

struct DeviceDefinition {
  uint32_t ordinal;
  std::string_view name;
  uint8_t uuid[16];
  uint64_t total_memory_bytes;
  uint32_t compute_capability;
  bool concurrent_managed_access;
  bool pageable_memory_access;
  std::string_view pci_bus_id;
  bool has_host_numa_node = false;
  int32_t host_numa_node = 0;
  // 0: not known.
  uint32_t link_generation = 0;
  uint32_t link_width = 0;
  uint32_t link_generation_max = 0;
  uint32_t link_width_max = 0;
  bool integrated = false;
  bool host_page_tables = false;
};

struct KernelThreadDefinition {
  uint32_t tid;
  uint64_t start_ticks;
  std::string_view name;
  ThreadRole role;
  bool has_device_uuid;
  uint8_t device_uuid[16];
};

// Values of uvmtrace.proto's MemoryAreaKind.
enum class MemoryAreaKind : uint8_t { kUnknown = 0, kHeap = 1, kStack = 2, kFile = 3, kAnonymous = 4, kShared = 5 };

struct NodeBytes {
  uint32_t node;
  uint64_t bytes;
};

// A mapping of the process that CUDA did not allocate.
struct MemoryAreaDefinition {
  uint64_t start;
  uint64_t end;
  MemoryAreaKind kind;
  std::string_view name;
  uint64_t seen_ns;
  std::span<const NodeBytes> nodes;  // where its pages are, if that is known
};

// What the session knows about the process. Strings are copied. The recorder adds pid, times, host and sizes itself.
struct ProcessDefinition {
  std::string_view detail;
  bool simulated = false;
  uint32_t cuda_driver_version = 0;
  uint32_t cuda_runtime_version = 0;
  uint32_t cupti_version = 0;
  std::string_view kernel_driver_version;
};

struct RecorderOptions {
  const char* path;  // where to write; see output_file.h for what happens to an existing file
  uint64_t run_id;
  size_t buffer_bytes;  // of all rings together: a host thread's ring has 256 KiB, a source's 4 MiB
  std::span<const FunctionDefinition> functions;
  std::string_view detail;
  uint64_t max_file_bytes = 0;  // 0: no limit; see chunk_writer.h for what goes on when it is reached
  // Called once, in a thread of its own, when every thread of the host has ended: ends the recorder's threads, which
  // would keep the process alive. Null: nobody ends them.
  void (*end_for_host)() = nullptr;
};

// The kind of thread decides the size of its ring, and that host events are drained so that an allocation stands in the
// trace before the faults on it: see writer_thread.h.
enum class RingKind : uint8_t { kHost, kSource };

class Recorder {
 public:
  // The process's recorder.
  static Recorder& Get();

  // Opens the file, starts the writer thread, has the first chunk written. At most 2 s for that chunk: later it is
  // still written when it can be, and one line on stderr says so. On failure returns false, says why in one line on
  // stderr, and stays stopped: events are then dropped without a trace, for there is none.
  bool Start(const RecorderOptions& options);
  bool running() const { return running_.load(std::memory_order_acquire); }

  // Pushes an event to the calling thread's ring. Wait-free, async-signal-safe after the thread's first call.
  template <typename Event>
  void Record(const Event& event, std::span<const uint64_t> tail = {}) {
    RecordBytes(Event::kType, &event, sizeof(Event), tail);
  }

  // Names the calling thread as a source: its events go to a large ring. Call before the thread's first Record.
  void BecomeSource();

  // Definitions and states. Any thread but a host's hot path: they take a short lock. Ids are from 1; 0 means that
  // memory ran out, which is counted as a loss.
  uint32_t InternString(std::string_view value);
  uint32_t DefineKernelThread(const KernelThreadDefinition& thread);
  // `frames` are ids of InternString, innermost first. A stack is not looked up: the caller keeps the id of each.
  uint32_t DefineKernelStack(std::span<const uint32_t> frames);
  // A Python function, by two ids of InternString. The same two give the same id.
  uint32_t DefineCode(uint32_t file, uint32_t function);
  void DefineDevice(const DeviceDefinition& device);
  void DefineParameter(std::string_view name, std::string_view value);
  void DefineManagedVariable(std::string_view name, uint64_t address, uint64_t bytes);
  void DefineMemoryArea(const MemoryAreaDefinition& area);
  void SetProcess(const ProcessDefinition& process);
  // Of an intercepted function: how often it was called, as CUPTI counts, and how often a hook saw it. Once, at the
  // end.
  void DefineAuditCount(std::string_view function, uint64_t happened, uint64_t seen);
  // From now on the process is recorded at this detail.
  void SetDetail(std::string_view detail, std::string_view reason);
  // The last state of a name is in force; setting the same state and reason again writes nothing.
  void SetSourceState(std::string_view name, SourceStateKind state, std::string_view reason = {});
  void CountLoss(std::string_view source, std::string_view reason, uint64_t count);

  // Asks the writer to write all that was recorded before the call and waits for it, at most timeout_ms.
  // Async-signal-safe. Returns whether it was written in time.
  bool Flush(int timeout_ms);

  // Flush, then the last chunk (End.clean) and no more. Events recorded afterwards are dropped. At most timeout_ms; if
  // that was not enough, one line on stderr says what the trace lacks.
  bool Close(int timeout_ms);

  // In a forked child: forgets everything without locking or freeing; the parent's file is not touched. Start may be
  // called again.
  void AbandonAfterFork();

  // The file being written, NUL-terminated; empty before Start.
  const char* path() const;

  // CPU time of the writer thread so far.
  uint64_t WriterCpuNs() const;
  // Written to the file so far.
  uint64_t BytesWritten() const;

 private:
  void RecordBytes(EventType type, const void* event, size_t size, std::span<const uint64_t> tail);

  std::atomic<bool> running_{false};
};

struct ThreadRing;

// A source whose events are delivered by other threads, the host's among them: they go to the source's own ring, and
// the host's threads keep theirs. In static storage.
class SharedSource {
 public:
  // What the calling thread records while one of these is in scope goes to the source's ring.
  class Lease {
   public:
    explicit Lease(SharedSource& source);
    ~Lease();
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;

    // False: there is no memory for the ring, or another thread delivers and does not get done.
    explicit operator bool() const { return held_; }

   private:
    SharedSource& source_;
    ThreadRing* saved_ring_ = nullptr;
    uint32_t saved_epoch_ = 0;
    bool held_ = false;
  };

  // In a forked child.
  void Forget();

 private:
  ShortLock lock_;
  ThreadRing* ring_ = nullptr;
  uint32_t epoch_ = 0;
};

}  // namespace uvmtrace
