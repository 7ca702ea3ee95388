// Second reading: the events, by several workers, and the sums that the sections of the report are made of.
//
// Chunks are read in rounds. In a round the workers take chunks as they come; then what needs the order of the file, or
// of time, is taken from the round's findings: batches by one task, residency by one for each share of the blocks.
// Rounds and shares do not depend on the number of threads, so neither does the report.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <functional>
#include <thread>

#include "analyzer/model/process_model.h"
#include "analyzer/timeline/windows_detail.h"

namespace uvmtrace::analyzer {
namespace {

constexpr uint64_t kRoundBytes = uint64_t{1} << 20;
constexpr size_t kRoundChunks = 64;
constexpr size_t kReconstructedAtOnce = 65536;
// Less than this is read before a second thread has started.
constexpr uint64_t kBytesForThreads = uint64_t{2} << 20;

// Calls task(worker, 0) ... task(worker, count - 1), each once, by as many threads as there are workers.
void Share(size_t workers, size_t count, const std::function<void(size_t, size_t)>& task) {
  std::atomic<size_t> next{0};
  const auto work = [&](size_t worker) {
    for (size_t i = next.fetch_add(1); i < count; i = next.fetch_add(1)) task(worker, i);
  };
  std::vector<std::thread> threads;
  for (size_t worker = 1; worker < std::min(workers, count); ++worker) threads.emplace_back(work, worker);
  work(0);
  for (std::thread& thread : threads) thread.join();
}

// False if the file does not have these bytes any more.
bool ReadFully(int file, uint64_t offset, size_t bytes, std::string* into) {
  into->resize(bytes);
  for (size_t got = 0; got < bytes;) {
    const ssize_t part = pread(file, into->data() + got, bytes - got, static_cast<off_t>(offset + got));
    if (part < 0 && errno == EINTR) continue;
    if (part <= 0) return false;
    got += static_cast<size_t>(part);
  }
  return true;
}

// Each worker has its tables, and their sum and what it is copied to have them too. Vectors have room to grow into.
TableBounds BoundsOf(const ReadBudget& budget, size_t threads) {
  constexpr uint64_t kSlack = 2;
  constexpr uint64_t kFewest = 1024;
  const auto bound = [&](uint64_t percent, uint64_t bytes_each, size_t most) {
    return static_cast<size_t>(std::clamp<uint64_t>(budget.Room(percent, bytes_each), kFewest, most));
  };
  TableBounds bounds;
  bounds.cells = bound(45, kSlack * sizeof(Cells::Entry) * (threads + 3), bounds.cells);
  bounds.touched_blocks = bound(15, 4 * 2 * sizeof(uint64_t) * (threads + 2), bounds.touched_blocks);
  bounds.residency_blocks = bound(40, kSlack * BlockTable::kBytesOfBlock, bounds.residency_blocks);
  return bounds;
}

}  // namespace

void ProcessModel::ReadEvents(const ReadOptions& options) {
  unsigned threads = options.threads != 0 ? options.threads : std::max(1u, std::thread::hardware_concurrency());
  if (event_bytes_ < kBytesForThreads) threads = 1;
  std::vector<EventWorker> workers;
  workers.reserve(threads);
  const TableBounds bounds = BoundsOf(budget, threads);
  for (unsigned i = 0; i < threads; ++i) workers.emplace_back(timeline, sampled, bounds);
  std::vector<MigrationOrder> orders(kMigrationOrders,
                                     MigrationOrder(bounds.residency_blocks / kMigrationOrders, bounds.cells));
  std::vector<ChunkFindings> findings(kRoundChunks);
  std::vector<std::string> buffers(threads);
  Cells waited(bounds.cells);

  const int events = open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  for (size_t begin = 0; events >= 0 && begin < event_chunks_.size();) {
    size_t until = begin;
    for (uint64_t bytes = 0; until < event_chunks_.size() && until - begin < kRoundChunks && bytes < kRoundBytes;
         ++until)
      bytes += event_chunks_[until].bytes;
    Share(threads, until - begin, [&](size_t worker, size_t i) {
      const ChunkPlace& place = event_chunks_[begin + i];
      if (ReadFully(events, place.offset, place.bytes, &buffers[worker])) {
        workers[worker].Read(buffers[worker], &findings[i]);
      } else {
        findings[i].Clear();
      }
    });
    Share(threads, kMigrationOrders + 1, [&](size_t, size_t task) {
      for (size_t i = 0; i < until - begin; ++i) {
        if (task == 0) {
          TakeFindings(findings[i], &waited);
        } else {
          orders[task - 1].Add(findings[i].migrated[task - 1]);
        }
      }
      if (task > 0) orders[task - 1].Advance();
    });
    begin = until;
  }
  FindRaces(threads, events);
  if (events >= 0) close(events);
  // In pieces, so that what waits for its order is bounded.
  std::vector<MigrationEvent> told;
  for (size_t begin = 0; reconstruction && begin < reconstruction->rows.size(); begin += told.size()) {
    told.clear();
    for (size_t i = begin; i < reconstruction->rows.size() && told.size() < kReconstructedAtOnce; ++i) {
      const reconstruct::Migration& row = reconstruction->rows[i];
      told.push_back({row.time_ns, 0, row.address, row.bytes, row.source, row.destination,
                      static_cast<MigrationCause>(row.cause)});
    }
    workers.front().AddMigrations(told, &findings.front());
    for (size_t i = 0; i < kMigrationOrders; ++i) {
      orders[i].Add(findings.front().migrated[i]);
      orders[i].Advance();
    }
  }

  Share(threads, kMigrationOrders + 1, [&](size_t, size_t task) {
    if (task > 0) return orders[task - 1].Finish();
    for (auto& [ordinal, device] : device_activity) {
      device.queue_batches.Finish(&waited);
      device.batches.Finish(&waited);
    }
  });
  EventSums sums = workers.front().sums();
  for (size_t i = 1; i < workers.size(); ++i) sums.Add(workers[i].sums());
  sums.cells.Add(waited);
  for (const MigrationOrder& order : orders) {
    sums.cells.Add(order.cells());
    late_migrations += order.late();
    untracked_bytes += order.untracked_bytes();
  }
  budget.Refuse(Spending::kBlocks, untracked_bytes);
  budget.Refuse(Spending::kCells, sums.cells.coarsened());
  budget.Refuse(Spending::kTouchedBlocks, sums.touched.refused());
  TakeSums(sums);
  SumUp();
  hazards.Looked(HazardKind::kTouchUnderKernel, totals.cpu_faults - unattributed.cpu_faults);
  hazards.Finish(&memory.table(), sums.last_use_ns, sums.prefetched);
}

// Only where a kernel was running when the CPU touched managed memory: then the faults of the GPUs are read once more.
void ProcessModel::FindRaces(size_t threads, int events) {
  timeline.kernel_runs.clear();
  if (touches_.empty() || events < 0) return;
  touches_.Seal();
  std::vector<ColumnBatch> batches(threads);
  std::vector<ClockConverter> clocks_of_worker(threads, timeline.clocks);
  std::vector<std::string> buffers(threads);
  Share(threads, event_chunks_.size(), [&](size_t worker, size_t i) {
    if (ReadFully(events, event_chunks_[i].offset, event_chunks_[i].bytes, &buffers[worker]))
      touches_.ReadGpuFaults(buffers[worker], &batches[worker], &clocks_of_worker[worker]);
  });
  for (const KernelTouch& touch : touches_.Races()) {
    const AllocationVersion& version = (*timeline.versions)[touch.version];
    HazardPlace place;
    place.kind = HazardKind::kTouchUnderKernel;
    place.pc = touch.pc;
    place.memory_kind = version.kind;
    place.allocation_stack = memory.table().sites()[version.site].stack;
    HazardFinding finding;
    finding.count = touch.count;
    finding.first_ns = touch.first_ns;
    finding.address = touch.address;
    finding.memory_address = version.base;
    finding.memory_bytes = version.end - version.base;
    finding.kernel = touch.kernel.name;
    hazards.AddFinding(place, finding);
  }
}

void ProcessModel::TakeFindings(const ChunkFindings& findings, Cells* waited) {
  for (const ChunkFindings::Piece& piece : findings.pieces) {
    DeviceActivity& device = device_activity[piece.device];
    const BatchShare* shares = findings.shares.data() + piece.first_share;
    if (piece.by_end) {
      device.batches.AddFaultsUntil(piece.first, piece.end, piece.faults, shares, piece.shares, waited);
    } else {
      device.queue_batches.AddFaults(piece.number, piece.first, piece.faults, shares, piece.shares, waited);
    }
  }
  for (const ChunkFindings::Replay& replay : findings.replays)
    device_activity[replay.device].queue_batches.AddReplay(replay.number, replay.time);
  for (const KernelTouch& touch : findings.touches) touches_.Add(touch);
  for (const ChunkFindings::Busy& busy : findings.busy)
    migrations[busy.direction][busy.cause].busy.Add(busy.start_ns, busy.end_ns);
}

void ProcessModel::TakeSums(const EventSums& sums) {
  cells = sums.cells;
  for (const auto& [ordinal, device] : sums.devices) device_activity[ordinal].DeviceSums::Add(device);
  gpu_fault_rows = sums.gpu_fault_rows;
  cpu_fault_rows = sums.cpu_fault_rows;
  migration_rows = sums.migration_rows;
  region_rows = sums.region_rows;
  replay_rows = sums.replay_rows;
  faults_without_end = sums.faults_without_end;
  unconverted_times += sums.unconverted_times;
  gpu_fault_sources = sums.gpu_fault_sources;
  cpu_fault_sources = sums.cpu_fault_sources;
  migration_sources = sums.migration_sources;
  region_sources = sums.region_sources;
  migrated_by_source = sums.migrated_by_source;
  for (size_t direction = 0; direction < kDirectionCount; ++direction) {
    for (size_t cause = 0; cause < kMigrationCauseCount; ++cause)
      migrations[direction][cause].MigrationSums::Add(sums.migrations[direction][cause]);
  }
  regions = sums.regions;
  cpu_fault_sites = sums.cpu_fault_sites;
  fatal_faults = sums.fatal_faults;
  sampled = sums.sampled;
  shared_pages = sums.shared_pages;
  site_touched_blocks.assign(memory.table().sites().size(), 0);
  sums.touched.ForEach([this](uint32_t account) {
    const uint32_t site = SiteOfAccount(account);
    if (site < site_touched_blocks.size()) ++site_touched_blocks[site];
  });
  const bool whole = reconstruction || !process || !InWindowsOnly(process->detail);
  for (const PrefetchCalls::Call& call : timeline.prefetches.calls()) {
    CallSiteSums& site = call_sites[call.call_site];
    if (!timeline.filter.Has(call.start_ns)) continue;
    const uint64_t moved = call.number < sums.prefetched.bytes.size() ? sums.prefetched.bytes[call.number] : 0;
    ++site.followed;
    site.moved_bytes += moved;
    if (moved == 0 && whole) ++site.without_effect;
  }
}

void ProcessModel::SumUp() {
  site_activity.assign(memory.table().sites().size(), {});
  for (const Cells::Entry* cell : cells.Sorted()) {
    const Cells::Entry& entry = *cell;
    totals.Add(entry.activity);
    const Account& account = accounts[entry.key.account];
    if (account.site == Account::kNoSite) {
      unattributed.Add(entry.activity);
      continue;
    }
    site_activity[account.site].Add(entry.activity);
    if (account.version != AllocationVersions::kNone) single_activity[account.version].Add(entry.activity);
  }
}

}  // namespace uvmtrace::analyzer
