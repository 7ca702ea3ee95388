#include "analyzer/reconstruct/reconstructor.h"

#include <algorithm>
#include <utility>

namespace uvmtrace::reconstruct {

using uvm_model::kBlockBytes;
using uvm_model::kMaxDevices;
using uvm_model::kPageBytes;
using uvm_model::PageMask;

namespace {

// From a service's last fault entry to its copies, and from a CPU fault to its copies.
constexpr uint64_t kGpuSettleNs = 14'000;
constexpr uint64_t kCpuSettleNs = 12'000;
// A prefetch call that returns sooner left its work to a thread of libcuda.
constexpr uint64_t kDeferredBelowNs = 15'000;
// Until what a service moves is counted by the driver, at the latest: after the end of its batch, and after a CPU
// fault, whose thread may have been kept from running.
constexpr uint64_t kGpuCountedNs = 100'000;
constexpr uint64_t kCpuCountedNs = 20'000'000;
// After so many corrections of the GPUs' room the rows are taken as they come.
constexpr uint64_t kMaxRuns = 12;
constexpr uint64_t kSpuriousWindowNs = 300'000;  // uvm_perf_authorized_cpu_fault_tracking_window_ns

uint64_t BatchKey(uint32_t batch, int32_t device) { return uint64_t{batch} << 8 | static_cast<uint8_t>(device); }

uint64_t Bytes(const PageMask& pages) { return static_cast<uint64_t>(pages.Count()) * kPageBytes; }

}  // namespace

Reconstructor::Reconstructor(const Options& options, Sink sink)
    : options_(options),
      sink_(std::move(sink)),
      blocks_(
          [](void* context, TrackedBlock* block) {
            auto* const self = static_cast<Reconstructor*>(context);
            for (int device = 0; device < kMaxDevices; ++device) self->FreeChunk(block, device);
          },
          this) {
  for (int device = 0; device < kMaxDevices; ++device) memory_.emplace_back(device);
}

std::vector<Reconstructor::Event> Reconstructor::OrderEvents() {
  service_rows_ = services_.Take();
  for (const Replay& replay : replays_) {
    uint64_t& end = batch_ends_[BatchKey(replay.batch, replay.device)];
    end = std::max(end, replay.time_ns);
  }
  for (const RareEvent& event : rare_events_) {
    if (event.kind == RareEventKind::kThrottling) throttles_.Add(event);
  }
  throttles_.Sort();
  driver_calls_ =
      std::any_of(calls_.begin(), calls_.end(), [](const Call& call) { return call.kind == CallKind::kMap; });

  std::vector<Event> events;
  events.reserve(service_rows_.size() + cpu_faults_.size() + rare_events_.size() + calls_.size() + counters_.size());
  const auto add = [&events](uint64_t time_ns, EventKind kind, size_t index) {
    events.push_back({time_ns, kind, static_cast<uint32_t>(index)});
  };
  for (size_t i = 0; i < service_rows_.size(); ++i) add(service_rows_[i].first_ns, EventKind::kService, i);
  for (size_t i = 0; i < cpu_faults_.size(); ++i) {
    add(throttles_.CpuServed(cpu_faults_[i].address, cpu_faults_[i].time_ns), EventKind::kCpuFault, i);
  }
  for (size_t i = 0; i < rare_events_.size(); ++i) {
    if (rare_events_[i].kind != RareEventKind::kThrottling) add(rare_events_[i].time_ns, EventKind::kRareEvent, i);
  }
  for (size_t i = 0; i < calls_.size(); ++i) {
    const Call& call = calls_[i];
    const uint64_t end_ns = call.time_ns + call.duration_ns;
    switch (call.kind) {
      case CallKind::kFree:
        // It waits for the kernels that run: the memory goes at its end.
        add(end_ns, EventKind::kFree, i);
        break;
      case CallKind::kPrefetch:
        add(call.duration_ns < kDeferredBelowNs ? call.time_ns : end_ns, EventKind::kCall, i);
        break;
      case CallKind::kAllocate:
      case CallKind::kMap:
      case CallKind::kMigrate:
        add(end_ns, EventKind::kCall, i);
        break;
      default:
        add(call.time_ns, EventKind::kCall, i);
    }
  }
  MatchStreams();
  for (size_t i = 0; i < kernels_.size(); ++i) {
    if (streams_.contains(kernels_[i].stream)) add(kernels_[i].time_ns, EventKind::kKernel, i);
  }
  MarkCountersInCalls();
  for (size_t i = 0; i < counters_.size(); ++i) add(counters_[i].time_ns, EventKind::kCounter, i);
  std::stable_sort(events.begin(), events.end(), [](const Event& a, const Event& b) {
    return a.time_ns != b.time_ns ? a.time_ns < b.time_ns : a.kind < b.kind;
  });
  return events;
}

// A sample taken while a prefetch runs holds a part of its bytes, and of the evictions for it.
void Reconstructor::MarkCountersInCalls() {
  std::stable_sort(counters_.begin(), counters_.end(),
                   [](const CounterSample& a, const CounterSample& b) { return a.time_ns < b.time_ns; });
  std::vector<std::pair<uint64_t, uint64_t>> busy;
  for (const Call& call : calls_) {
    if (call.kind == CallKind::kPrefetch || call.kind == CallKind::kMigrate) {
      busy.emplace_back(call.time_ns, call.time_ns + call.duration_ns);
    }
  }
  std::sort(busy.begin(), busy.end());
  counter_in_call_.assign(counters_.size(), false);
  uint64_t busy_until = 0;
  size_t next = 0;
  for (size_t i = 0; i < counters_.size(); ++i) {
    for (; next < busy.size() && busy[next].first <= counters_[i].time_ns; ++next) {
      busy_until = std::max(busy_until, busy[next].second);
    }
    counter_in_call_[i] = counters_[i].time_ns <= busy_until;
    counters_by_device_ |= counters_[i].device != -1;
  }
}

void Reconstructor::Finish() {
  const std::vector<Event> events = OrderEvents();
  while (!Run(events)) may_correct_ = statistics_.runs + 1 < kMaxRuns;
  for (const Migration& row : rows_) sink_(row);
}

bool Reconstructor::Run(const std::vector<Event>& events) {
  Forget();
  ++statistics_.runs;
  for (const Event& event : events) {
    for (DeviceMemory& memory : memory_) memory.room.Reach(event.time_ns);
    Apply(event);
    if (run_again_) return false;
  }
  DoPending(pending_.size(), events.empty() ? 0 : events.back().time_ns);
  FinishCounters();
  return !run_again_;
}

double Reconstructor::ExplainedShare() const {
  const uint64_t exact = to_device_check().exact_bytes() + to_host_check().exact_bytes();
  const uint64_t unexplained = to_device_check().unexplained_bytes() + to_host_check().unexplained_bytes();
  if (unexplained == 0) return 1;
  return unexplained >= exact ? 0 : 1 - static_cast<double>(unexplained) / static_cast<double>(exact);
}

void Reconstructor::Apply(const Event& event) {
  switch (event.kind) {
    case EventKind::kFree:
    case EventKind::kCall:
      Apply(calls_[event.index], event.time_ns);
      break;
    case EventKind::kKernel:
      Apply(kernels_[event.index]);
      break;
    case EventKind::kService:
      Apply(service_rows_[event.index]);
      break;
    case EventKind::kCpuFault: {
      CpuFault fault = cpu_faults_[event.index];
      fault.time_ns = event.time_ns;
      Apply(fault);
      break;
    }
    case EventKind::kRareEvent:
      Apply(rare_events_[event.index]);
      break;
    case EventKind::kCounter:
      Apply(counters_[event.index], counter_in_call_[event.index]);
      break;
  }
}

void Reconstructor::Forget() {
  blocks_.Clear();
  for (int device = 0; device < kMaxDevices; ++device) {
    Room room = std::move(memory_[static_cast<size_t>(device)].room);
    if (options_.hypothetical && options_.room_bytes != Room::kUnknown) room.StartWith(options_.room_bytes);
    room.Restart();
    memory_[static_cast<size_t>(device)] = DeviceMemory(device);
    memory_[static_cast<size_t>(device)].room = std::move(room);
  }
  rows_.clear();
  told_ = {};
  allocations_.clear();
  slabs_.clear();
  attached_.clear();
  pending_.clear();
  last_batch_ = {};
  served_batches_.clear();
  run_again_ = false;
  const uint64_t runs = statistics_.runs;
  statistics_ = {};
  statistics_.runs = runs;
}

uint64_t Reconstructor::EndOfBatch(const Service& service) const {
  const auto end = batch_ends_.find(BatchKey(service.batch, service.device));
  return end == batch_ends_.end() ? service.last_ns : end->second;
}

const uvm_model::ThrashingView& Reconstructor::Thrashing(TrackedBlock* block, uint64_t time_ns) {
  static const uvm_model::ThrashingView kNone;
  if (block->thrashing == nullptr) return kNone;
  block->thrashing->Expire(time_ns, options_.thrashing);
  return block->thrashing->view();
}

// Pages came to a GPU, or were mapped there: stale faults on them may follow until the next batch is over.
void Reconstructor::Brought(TrackedBlock* block, int32_t device, const PageMask& pages, uint64_t time_ns,
                            uint64_t done_ns) {
  TrackedBlock::Fresh& fresh = block->fresh[device];
  if (!fresh.any || fresh.batch != last_batch_[device]) fresh.pages = {};
  fresh.any = true;
  fresh.batch = last_batch_[device];
  fresh.pages |= pages;
  MarkUsed(block, device);
  MakeRoom(block, device, time_ns, done_ns);
}

// Tells of the transfers of the service that just ended, and forgets them.
void Reconstructor::Moved(TrackedBlock* block, uint64_t time_ns, uint64_t done_ns, uint32_t batch) {
  for (const uvm_model::Transfer& transfer : transfers_) {
    const uint64_t bytes = Bytes(transfer.pages);
    if (transfer.destination == kCpu) {
      told_[0].AddToHost(bytes, done_ns);
      told_[static_cast<size_t>(transfer.source + 1)].AddToHost(bytes, done_ns);
    } else if (transfer.source == kCpu) {
      told_[0].AddToDevice(bytes);
      told_[static_cast<size_t>(transfer.destination + 1)].AddToDevice(bytes);
    }
    if (block->thrashing != nullptr) block->thrashing->Moved(transfer.pages, time_ns, options_.thrashing);
    if (transfer.source != kCpu) MarkUnusedIfEmpty(block, transfer.source);
    Migration row;
    row.time_ns = time_ns;
    row.source = transfer.source;
    row.destination = transfer.destination;
    row.cause = transfer.cause;
    row.batch = batch;
    transfer.pages.ForEachRun([&](int first, int count) {
      row.address = block->Address(first);
      row.bytes = static_cast<uint64_t>(count) * kPageBytes;
      rows_.push_back(row);
    });
  }
  transfers_.clear();
}

void Reconstructor::Apply(const Service& service) {
  if (!IsDevice(service.device)) {
    ++statistics_.devices_beyond_model;
    return;
  }
  ++statistics_.services;
  const int device = service.device;
  last_batch_[device] = service.batch;
  const uint64_t end_ns = EndOfBatch(service);
  PageMask rest = service.faults.read | service.faults.write;
  while (!rest.Empty()) {
    TrackedBlock* const block = blocks_.At(service.base + static_cast<uint64_t>(rest.FindNext(0)) * kPageBytes);
    const PageMask here = block->All();
    rest -= here;
    uvm_model::FaultedPages faults = {service.faults.read & here, service.faults.write & here};
    CatchUp(block, faults.read | faults.write, device, service.first_ns);
    // Entries that the flush after the last batch left behind speak of pages that it brought. Any other fault on a page
    // that the GPU can access says that the block was evicted.
    TrackedBlock::Fresh& fresh = block->fresh[device];
    PageMask authorized = uvm_model::AuthorizedPages(*block, device, faults);
    const bool recent = fresh.any && service.batch - fresh.batch <= 1;
    const PageMask surprising = recent ? authorized - fresh.pages : authorized;
    if (!surprising.Empty() && !options_.hypothetical && EvictUntil(block, device, service.first_ns)) {
      authorized = uvm_model::AuthorizedPages(*block, device, faults);
    }
    statistics_.stale_pages += static_cast<uint64_t>(authorized.Count());
    const uint64_t last_ns = std::max(service.last_ns, throttles_.LastLook(service.base, end_ns));
    const PageMask waiting = throttles_.Waiting(service.base, device, end_ns);
    faults.read -= waiting;
    faults.write -= waiting;
    const PageMask served = uvm_model::ServeGpuFaults(block, device, faults, Thrashing(block, service.first_ns),
                                                      options_.service, &transfers_);
    statistics_.served_pages += static_cast<uint64_t>(((faults.read | faults.write) - authorized).Count());
    if (options_.on_served) options_.on_served(device, last_ns, service.batch, block->base, served);
    if (served.Empty()) continue;
    if (served_batches_.insert(BatchKey(service.batch, service.device)).second) ++statistics_.served_batches;
    const uint64_t done_ns = std::max(end_ns, last_ns) + kGpuCountedNs;
    Moved(block, last_ns + kGpuSettleNs, done_ns, service.batch);
    Brought(block, device, served, last_ns + kGpuSettleNs, done_ns);
  }
}

void Reconstructor::Apply(const CpuFault& fault) {
  TrackedBlock* const block = blocks_.At(fault.address);
  const int page = static_cast<int>((fault.address - block->base) / kPageBytes);
  PageMask faulted;
  faulted.Set(page);
  CatchUp(block, faulted, kCpu, fault.time_ns);
  if ((fault.write ? block->cpu_writable : block->cpu_readable).Test(page)) {
    // Another thread was faster, unless it is the same thread again: the kernel took the mapping away.
    if (block->spurious_ns == 0) {
      block->spurious_ns = fault.time_ns;
      block->spurious_tid = fault.tid;
      block->spurious_page = page;
      return;
    }
    const bool same = block->spurious_tid == fault.tid && block->spurious_page == page;
    if (!same && fault.time_ns - block->spurious_ns <= kSpuriousWindowNs) return;
    block->spurious_ns = 0;
  }
  ++statistics_.cpu_services;
  const PageMask served = uvm_model::ServeCpuFault(block, page, fault.write, Thrashing(block, fault.time_ns),
                                                   options_.service, &transfers_);
  if (options_.on_served) options_.on_served(kCpu, fault.time_ns, 0, block->base, served);
  Moved(block, fault.time_ns + kCpuSettleNs, fault.time_ns + kCpuCountedNs, 0);
}

void Reconstructor::Apply(const RareEvent& event) {
  TrackedBlock* const block = blocks_.At(event.address);
  const int page = static_cast<int>((event.address - block->base) / kPageBytes);
  if (block->thrashing == nullptr) block->thrashing = std::make_unique<uvm_model::Thrashing>();
  if (event.kind == RareEventKind::kThrashing) {
    block->thrashing->Begin(page, event.time_ns);
  } else if (event.processor == kCpu || IsDevice(event.processor)) {
    block->thrashing->Pin(page, event.processor, event.time_ns, options_.thrashing);
  }
}

}  // namespace uvmtrace::reconstruct
