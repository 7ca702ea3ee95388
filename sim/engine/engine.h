// The simulated GPUs of this process: their memory, streams, driver threads and time. libcuda.so.1 is a thin layer over
// it.
//
// The engine's lock protects the model, the allocations and the page protections; nobody waits for simulated time while
// holding it, and nobody touches the application's view of managed memory while holding it, so that a page fault can
// take it. The one instance is never destroyed: threads of the host may run until the very end of the process.
#pragma once

#include <cuda.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "sim/engine/address_window.h"
#include "sim/engine/bottom_half.h"
#include "sim/engine/device_queue.h"
#include "sim/engine/driver_tools.h"
#include "sim/engine/paging_model.h"
#include "sim/engine/proc_root.h"
#include "sim/engine/profile.h"
#include "sim/engine/synchronization_table.h"
#include "sim/engine/tables.h"
#include "sim/engine/thrashing.h"
#include "sim/engine/thread.h"
#include "sim/engine/timeline.h"
#include "sim/engine/tools_queue.h"
#include "sim/engine/virtual_clock.h"

namespace uvmsim {

enum class AllocationKind : uint8_t { kDevice, kManaged, kPinned, kRegistered, kReserved };

struct Allocation {
  uint64_t address = 0;
  uint64_t bytes = 0;  // as asked for
  AllocationKind kind = AllocationKind::kDevice;
  unsigned flags = 0;
  uint64_t id = 0;  // CU_POINTER_ATTRIBUTE_BUFFER_ID: never used twice
  int device = 0;   // that has it, or that was current; managed memory is nobody's
};

struct Function {
  std::string name;
  UvmsimKernelModel model = nullptr;
  int arguments = -1;  // -1: not known
  std::vector<uint32_t> argument_bytes;
};

struct Stream {
  uint32_t id = 0;
  unsigned flags = 0;
  int priority = 0;
  std::shared_ptr<DeviceQueue::Lane> lane;
  std::atomic<DeviceQueue::Ticket> last{0};
};

// One cudaEventRecord. The event may be recorded again, or destroyed, while this is still on its way.
struct Recording {
  DeviceQueue::Ticket ticket = 0;
  std::atomic<double> time_ns{0};  // virtual
};

struct GpuEvent {
  unsigned flags = 0;
  std::shared_ptr<Recording> recording;  // the latest; under work_mutex_
};

// A piece of physical device memory of cuMemCreate.
struct PhysicalMemory {
  int file = -1;
  uint64_t bytes = 0;
  int device = 0;
  int references = 1;  // the handle, and every mapping
};

struct Mapping {  // of physical memory into a reserved range
  uint64_t bytes = 0;
  PhysicalMemory* memory = nullptr;
  bool accessible = false;
};

// Who touched the memory, for the driver's tools events.
struct FaultOrigin {
  uint64_t program_counter = 0;  // CPU faults
  uint64_t address = 0;          // GPU faults: what the access wanted
  uint64_t bytes = 0;
  int preferred = kNoProcessor;  // the preferred location of the memory
};

// Who of the GPU touches memory. Copy engines are handed what CUDA does not know through staging buffers, and their
// time on the link is that of the whole copy.
enum class GpuClient : uint8_t { kKernelReads, kKernelWrites, kKernelReadsAndWrites, kCopyEngine };

class Engine {
 public:
  // Null before cuInit has succeeded, and in a forked child for ever.
  static Engine* Get();
  static CUresult Initialize();

  const Profile& profile() const { return profile_; }
  int gpu_count() const { return static_cast<int>(gpus_.size()); }
  const std::string& uuid(int device) const { return gpus_[static_cast<size_t>(device)]->uuid; }
  VirtualClock& clock() { return clock_; }
  // The calling thread works that long in the driver, which it shows by burning CPU time.
  void HostWorks(double ns) { SpendInCaller(ns); }
  ToolsQueue& tools() { return tools_; }

  // --- memory.cc: what exists at which address ---
  CUresult AllocateDevice(int device, uint64_t bytes, uint64_t* address);
  CUresult AllocateManaged(uint64_t bytes, unsigned flags, uint64_t* address);
  CUresult AllocatePinned(uint64_t bytes, unsigned flags, uint64_t* address);
  CUresult RegisterHost(uint64_t address, uint64_t bytes, unsigned flags);
  // Device, managed. The caller has waited for the work that uses it.
  CUresult Free(uint64_t address);
  CUresult FreeHost(uint64_t address, AllocationKind kind);
  // The allocation that contains the address.
  bool Find(uint64_t address, Allocation* allocation);
  // Whether [address, address + bytes) is in one managed allocation.
  bool IsManaged(uint64_t address, uint64_t bytes);
  void MemoryInfo(int device, uint64_t* free_bytes, uint64_t* total_bytes);
  // A stream's own memory comes from the GPU's. It is not kept: only a GPU that is full is noticed.
  bool HasRoomForStream(int device);

  CUresult ReserveAddresses(uint64_t bytes, uint64_t alignment, uint64_t* address);
  CUresult FreeAddresses(uint64_t address, uint64_t bytes);
  CUresult CreatePhysical(int device, uint64_t bytes, PhysicalMemory** memory);
  CUresult ReleasePhysical(PhysicalMemory* memory);
  CUresult MapPhysical(uint64_t address, uint64_t bytes, uint64_t offset, PhysicalMemory* memory);
  CUresult UnmapPhysical(uint64_t address, uint64_t bytes);
  CUresult SetAccess(uint64_t address, uint64_t bytes, bool accessible);

  // --- paging.cc: who touches what, and what that costs ---
  // On the device thread: the GPU touches the bytes. A pointer to them, or null if the GPU cannot reach them.
  void* GpuAccess(uint64_t address, uint64_t bytes, Access access, GpuClient client);
  CUresult Prefetch(uint64_t address, uint64_t bytes, int destination, Stream* stream);
  CUresult Advise(uint64_t address, uint64_t bytes, Advice advice, int processor);
  // In the page fault handler. False if the address is none of ours.
  bool HandleCpuFault(uint64_t address, Access access, uint64_t program_counter);
  uint64_t ResidentBytes(int processor, uint64_t address, uint64_t bytes);
  Policy PolicyAt(uint64_t address);
  // Device or managed memory, or room for it.
  bool OwnsAddress(uint64_t address) const { return window_.Contains(address); }

  // --- streams.cc: streams, events, and waiting for them ---
  // `device` is the one whose default stream is meant. Null: no such stream.
  Stream* ResolveStream(int device, CUstream handle);
  Stream* CreateStream(int device, unsigned flags, int priority);
  bool DestroyStream(Stream* stream);
  GpuEvent* CreateEvent(unsigned flags);
  bool DestroyEvent(GpuEvent* event);
  CUresult RecordEvent(GpuEvent* event, Stream* stream);
  CUresult WaitEvent(Stream* stream, GpuEvent* event);
  CUresult QueryEvent(GpuEvent* event);
  CUresult SynchronizeEvent(GpuEvent* event);
  CUresult ElapsedMilliseconds(GpuEvent* start, GpuEvent* end, float* milliseconds);
  // `work` runs on the device thread and adds what it needs to demand_; `complete` when its time is over.
  DeviceQueue::Ticket Submit(Stream* stream, std::function<void()> work, std::function<void()> complete = {});
  // These wait, and return the sticky error of the context.
  CUresult SynchronizeStream(Stream* stream);
  CUresult SynchronizeDevice(int device);
  CUresult SynchronizeAll();
  CUresult QueryStream(Stream* stream);
  CUresult Error() const { return static_cast<CUresult>(error_.load()); }

  // --- work.cc: kernels, copies ---
  Function* CreateFunction(const char* name, UvmsimKernelModel model);
  CUresult Launch(Function* function, UvmsimDim grid, UvmsimDim block, void** arguments, Stream* stream);
  void* KernelAccess(const void* address, uint64_t bytes, int usage);
  // Whether kernels of `device` may use the memory of `peer`. Copies and migrations always may.
  void EnablePeer(int device, int peer, bool enabled) { peers_[device][peer] = enabled; }
  bool PeerEnabled(int device, int peer) const { return device == peer || peers_[device][peer]; }
  // The running kernel computes that long.
  void KernelComputes(double ns) { demand_.memory_ns += ns; }
  // Copies row by row; a plain copy is one row.
  struct CopyShape {
    uint64_t width = 0;
    uint64_t height = 1;
    uint64_t destination_pitch = 0;
    uint64_t source_pitch = 0;
  };
  CUresult Copy(uint64_t destination, uint64_t source, const CopyShape& shape, Stream* stream, bool wait);
  CUresult Fill(uint64_t destination, uint32_t value, int value_bytes, uint64_t count, Stream* stream, bool wait);

  void EnableKernelRecords(bool enabled) { kernel_records_enabled_ = enabled; }
  size_t ReadKernelRecords(CuptiKernelRecord* records, size_t capacity);
  void EnableSynchronizationRecords(bool enabled) { synchronization_records_enabled_ = enabled; }
  size_t ReadSynchronizationRecords(CuptiSynchronizationRecord* records, size_t capacity);
  // A call of the program that waits, or lets a stream wait: `wait` does so. `stream` may be null.
  CUresult Synchronize(uint32_t type, const Stream* stream, const std::function<CUresult()>& wait);
  void Totals(EngineTotals* totals);
  // Bytes cross the link: by the copy engines, in packets of 256 bytes, or by the GPU's own accesses, of 128.
  void CountLink(bool to_gpu, uint64_t bytes, bool in_place);

  // The process is ending: no more work, no more folder.
  void Shutdown();

 private:
  Engine();
  bool Start();
  static void ForgetAfterFork();

  // With the lock held.
  std::map<uint64_t, Allocation>::iterator FindLocked(uint64_t address);
  // Makes the blocks of [address, address + bytes) managed memory that lives on the CPU, so that the model migrates
  // them. False if the process has no such memory.
  bool AddSystemMemoryLocked(uint64_t address, uint64_t bytes);
  Allocation* AddLocked(uint64_t address, uint64_t bytes, AllocationKind kind, unsigned flags, int device = 0);
  CUresult ReserveDeviceLocked(int device, uint64_t bytes, Outcome* outcome);
  uint64_t AllocateSmallLocked(int device, uint64_t bytes, Outcome* outcome);
  bool ReservedAccessibleLocked(uint64_t address, uint64_t bytes);
  void ApplyProtections(const Outcome& outcome);

  // Outcomes are kept for reuse, so that the page fault handler does not allocate.
  Outcome* TakeOutcomeLocked();
  void GiveOutcome(Outcome* outcome);

  // The calling host thread works that long, and shows it by burning CPU time.
  Interval SpendInCaller(double ns);
  // Without the lock: lets the modelled time of each batch pass on `spend`, then reports its events.
  void FinishInCaller(const Outcome& outcome, const FaultOrigin& origin = {});
  template <typename Spend>
  void Finish(const Outcome& outcome, const FaultOrigin& origin, Spend spend);
  void Report(const Outcome& outcome, const Batch& batch, const Interval& interval, const FaultOrigin& origin);
  void ReportToTools(const Outcome& outcome, const Batch& batch, const Interval& interval, const FaultOrigin& origin);
  void ReportFatalFault(uint64_t address, Access access);
  // What a fault has moved, as far as it is news about thrashing; reported without the lock.
  struct ThrashedRun {
    uint64_t address, bytes;
    int processors[2];
  };
  struct ThrashedRuns {
    std::array<ThrashedRun, 16> runs;  // more in one access are not told
    size_t count = 0;
  };
  void NoteMovesLocked(const Outcome& outcome, int processor, double now_ns, ThrashedRuns* found);
  void ReportThrashing(const ThrashedRuns& found);
  // Before a fault is serviced: lets the processor wait if the driver would. Returns how long.
  double Throttle(uint64_t address, uint64_t bytes, int processor, double now_ns);
  void ReportThrottling(uint64_t address, int processor, const Interval& interval);
  // On the device thread: the virtual time at which the work is with its faults.
  double DeviceNow() const { return work_start_ns_ + demand_.service_ns + demand_.throttled_ns; }
  void RunKernel(Function* function, UvmsimLaunch launch, CuptiKernelRecord* record);
  void ReportKernel(CuptiKernelRecord* record);
  void RunCopy(uint64_t destination, uint64_t source, const CopyShape& shape);
  bool CopyRow(uint64_t destination, uint64_t source, uint64_t bytes);
  void DemandCopy(uint64_t destination, uint64_t source, uint64_t bytes);
  void DemandInPlace(uint64_t bytes, GpuClient client, Access access);
  void DemandDeviceMemory(uint64_t bytes);
  // Null where the handle is no event, or was never recorded.
  std::shared_ptr<Recording> RecordingOf(GpuEvent* event);
  void SetError(CUresult error);
  double Scaled(double ns) const { return ns * profile_.time_scale; }

  struct Gpu {
    std::string uuid;
    BottomHalf bottom_half;
    Stream default_stream;
    GpuTimeline timeline;                 // of the device thread
    FreeRanges small_free;                // pieces of 2 MiB slabs for small device allocations
    std::map<uint64_t, int> small_slabs;  // slab -> live allocations
  };
  Gpu& gpu(int device) { return *gpus_[static_cast<size_t>(device)]; }

  Profile profile_;
  std::vector<std::unique_ptr<Gpu>> gpus_;
  std::atomic<bool> peers_[kMaxDevices][kMaxDevices] = {};
  Mutex mutex_;
  AddressWindow window_;
  Model model_;
  ThrashingDetector thrashing_;
  ToolsQueue tools_;
  DriverTools& driver_tools_ = DriverTools::Get();
  std::atomic<uint32_t> tools_batches_{1};  // the next batch's number
  VirtualClock clock_;
  DeviceQueue queue_;
  // The device thread's: the work that it executes.
  int device_ = 0;
  double work_start_ns_ = 0;
  Demand demand_;
  ProcRoot root_;

  std::map<uint64_t, Allocation> allocations_;
  uint64_t next_allocation_id_ = 1;
  std::map<uint64_t, Mapping> mappings_;
  std::set<PhysicalMemory*> physical_;
  std::vector<std::unique_ptr<Outcome>> outcomes_;
  std::vector<Outcome*> free_outcomes_;
  bool protection_failed_ = false;

  Mutex work_mutex_;  // streams, events and their recordings, functions, kernel records
  std::set<Stream*> streams_;
  std::set<GpuEvent*> events_;
  std::deque<Function> functions_;
  std::deque<CuptiKernelRecord> kernel_records_;
  std::deque<CuptiSynchronizationRecord> synchronization_records_;
  uint32_t next_stream_ = 13;  // the first user stream's number as CUPTI shows it
  uint32_t next_correlation_ = 1;
  std::atomic<bool> kernel_records_enabled_{false};
  std::atomic<bool> synchronization_records_enabled_{false};
  std::atomic<int> error_{CUDA_SUCCESS};

  Mutex totals_mutex_;
  EngineTotals totals_ = {};
};

}  // namespace uvmsim
