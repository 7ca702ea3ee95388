// One simulated GPU in this process: its memory, its queue, its driver threads. libcuda.so.1 is a thin layer over it.
//
// The engine's lock protects the model, the allocations and the page protections; nobody waits for simulated time while
// holding it, and nobody touches the application's view of managed memory while holding it, so that a page fault can
// take it. The one instance is never destroyed: threads of the host may run until the very end of the process.
#pragma once

#include <cuda.h>

#include <atomic>
#include <cstdint>
#include <deque>
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
#include "sim/engine/tables.h"
#include "sim/engine/thread.h"
#include "sim/engine/tools_queue.h"

namespace uvmsim {

enum class AllocationKind : uint8_t { kDevice, kManaged, kPinned, kRegistered, kReserved };

struct Allocation {
  uint64_t address = 0;
  uint64_t bytes = 0;  // as asked for
  AllocationKind kind = AllocationKind::kDevice;
  unsigned flags = 0;
  uint64_t id = 0;  // CU_POINTER_ATTRIBUTE_BUFFER_ID: never used twice
};

struct Function {
  std::string name;
  UvmsimKernelModel model = nullptr;
  int arguments = -1;  // -1: not known
};

struct Stream {
  uint32_t id = 0;
  unsigned flags = 0;
  int priority = 0;
  std::atomic<DeviceQueue::Ticket> last{0};
};

struct GpuEvent {
  unsigned flags = 0;
  std::atomic<DeviceQueue::Ticket> ticket{0};
  std::atomic<uint64_t> time_ns{0};
};

// A piece of physical device memory of cuMemCreate.
struct PhysicalMemory {
  int file = -1;
  uint64_t bytes = 0;
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

class Engine {
 public:
  // Null before cuInit has succeeded, and in a forked child for ever.
  static Engine* Get();
  static CUresult Initialize();

  const Profile& profile() const { return profile_; }
  const std::string& uuid() const { return uuid_; }
  DeviceQueue& queue() { return queue_; }
  ToolsQueue& tools() { return tools_; }

  // --- memory.cc: what exists at which address ---
  CUresult AllocateDevice(uint64_t bytes, uint64_t* address);
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
  void MemoryInfo(uint64_t* free_bytes, uint64_t* total_bytes);
  // A stream's own memory comes from the GPU's. It is not kept: only a GPU that is full is noticed.
  bool HasRoomForStream();

  CUresult ReserveAddresses(uint64_t bytes, uint64_t alignment, uint64_t* address);
  CUresult FreeAddresses(uint64_t address, uint64_t bytes);
  CUresult CreatePhysical(uint64_t bytes, PhysicalMemory** memory);
  CUresult ReleasePhysical(PhysicalMemory* memory);
  CUresult MapPhysical(uint64_t address, uint64_t bytes, uint64_t offset, PhysicalMemory* memory);
  CUresult UnmapPhysical(uint64_t address, uint64_t bytes);
  CUresult SetAccess(uint64_t address, uint64_t bytes, bool accessible);

  // --- paging.cc: who touches what, and what that costs ---
  // On the device thread: the GPU touches the bytes. A pointer to them, or null if the GPU cannot reach them.
  // `any_host` lets memory pass that CUDA does not know, which copy engines are handed through staging buffers.
  void* GpuAccess(uint64_t address, uint64_t bytes, Access access, bool any_host);
  void Prefetch(uint64_t address, uint64_t bytes, int destination);
  CUresult Advise(uint64_t address, uint64_t bytes, Advice advice, int processor);
  // In the page fault handler. False if the address is none of ours.
  bool HandleCpuFault(uint64_t address, Access access, uint64_t program_counter);
  uint64_t ResidentBytes(int processor, uint64_t address, uint64_t bytes);
  Policy PolicyAt(uint64_t address);
  // Device or managed memory, or room for it.
  bool OwnsAddress(uint64_t address) const { return window_.Contains(address); }

  // --- work.cc: streams, events, kernels, copies ---
  Stream* ResolveStream(CUstream handle);  // null: no such stream
  Stream* CreateStream(unsigned flags, int priority);
  bool DestroyStream(Stream* stream);
  GpuEvent* CreateEvent(unsigned flags);
  bool IsEvent(GpuEvent* event);
  bool DestroyEvent(GpuEvent* event);
  DeviceQueue::Ticket Submit(Stream* stream, std::function<void()> work);
  // Waits; returns the sticky error of the context.
  CUresult Synchronize(DeviceQueue::Ticket ticket);
  CUresult Error() const { return static_cast<CUresult>(error_.load()); }
  Function* CreateFunction(const char* name, UvmsimKernelModel model);
  CUresult Launch(Function* function, UvmsimDim grid, UvmsimDim block, void** arguments, Stream* stream);
  void* KernelAccess(const void* address, uint64_t bytes, Access access);
  // Copies row by row; a plain copy is one row.
  struct CopyShape {
    uint64_t width = 0;
    uint64_t height = 1;
    uint64_t destination_pitch = 0;
    uint64_t source_pitch = 0;
  };
  CUresult Copy(uint64_t destination, uint64_t source, const CopyShape& shape, Stream* stream, bool wait);
  CUresult Fill(uint64_t destination, uint32_t value, int value_bytes, uint64_t count, Stream* stream, bool wait);
  CUresult RecordEvent(GpuEvent* event, Stream* stream);

  void EnableKernelRecords(bool enabled) { kernel_records_enabled_ = enabled; }
  size_t ReadKernelRecords(CuptiKernelRecord* records, size_t capacity);
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
  Allocation* AddLocked(uint64_t address, uint64_t bytes, AllocationKind kind, unsigned flags);
  CUresult ReserveDeviceLocked(uint64_t bytes, Outcome* outcome);
  bool ReservedAccessibleLocked(uint64_t address, uint64_t bytes);
  void ApplyProtections(const Outcome& outcome);

  // Outcomes are kept for reuse, so that the page fault handler does not allocate.
  Outcome* TakeOutcomeLocked();
  void GiveOutcome(Outcome* outcome);

  // Without the lock: lets the modelled time of each batch pass on `spend`, then reports its events.
  void FinishInCaller(const Outcome& outcome);  // by burning the calling thread's CPU time
  template <typename Spend>
  void Finish(const Outcome& outcome, const FaultOrigin& origin, Spend spend);
  void Report(const Outcome& outcome, const Batch& batch, const Interval& interval, const FaultOrigin& origin);
  void ReportToTools(const Outcome& outcome, const Batch& batch, const Interval& interval, const FaultOrigin& origin);
  void ReportFatalFault(uint64_t address, Access access);
  void RunKernel(Function* function, UvmsimLaunch launch, uint32_t stream, uint32_t correlation);
  void RunCopy(uint64_t destination, uint64_t source, const CopyShape& shape);
  bool CopyRow(uint64_t destination, uint64_t source, uint64_t bytes);
  double CopyTimeNs(uint64_t destination, uint64_t source, uint64_t bytes);
  bool CopyCrossesLink(uint64_t destination, uint64_t source, bool* to_gpu, bool* pageable);
  void SetError(CUresult error);
  double Scaled(double ns) const { return ns * profile_.time_scale; }

  Profile profile_;
  std::string uuid_;
  Mutex mutex_;
  AddressWindow window_;
  Model model_;
  ToolsQueue tools_;
  DriverTools& driver_tools_ = DriverTools::Get();
  std::atomic<uint32_t> tools_batches_{1};  // the next batch's number
  BottomHalf bottom_half_;
  DeviceQueue queue_;
  ProcRoot root_;

  std::map<uint64_t, Allocation> allocations_;
  uint64_t next_allocation_id_ = 1;
  FreeRanges small_free_;                // pieces of 2 MiB slabs for small device allocations
  std::map<uint64_t, int> small_slabs_;  // slab -> live allocations
  std::map<uint64_t, Mapping> mappings_;
  std::set<PhysicalMemory*> physical_;
  std::vector<std::unique_ptr<Outcome>> outcomes_;
  std::vector<Outcome*> free_outcomes_;
  bool protection_failed_ = false;

  Mutex work_mutex_;  // streams, events, functions, kernel records
  std::set<Stream*> streams_;
  std::set<GpuEvent*> events_;
  std::deque<Function> functions_;
  std::deque<CuptiKernelRecord> kernel_records_;
  Stream default_stream_;
  uint32_t next_stream_ = 13;  // the first user stream's number as CUPTI shows it
  uint32_t next_correlation_ = 1;
  std::atomic<bool> kernel_records_enabled_{false};
  std::atomic<int> error_{CUDA_SUCCESS};

  Mutex totals_mutex_;
  EngineTotals totals_ = {};
};

}  // namespace uvmsim
