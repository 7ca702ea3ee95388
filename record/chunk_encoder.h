// Turns events into the column messages of one chunk. The writer thread's own.
//
// One set of columns for each event kind, or for each (source, clock) of the kinds that have them, in the order of
// proto/uvmtrace.proto. Definitions are not its business: it is told a stack's id.
#pragma once

#include <cstdint>

#include "record/columns.h"
#include "record/event.h"

namespace uvmtrace {

class ChunkEncoder {
 public:
  // Rows by EventType.
  struct RowCounts {
    uint64_t of[kEventTypeCount] = {};
    uint64_t Total() const {
      uint64_t total = 0;
      for (const uint64_t count : of) total += count;
      return total;
    }
  };

  // `event` is the struct of the type. False: there was no memory for it, or nothing in the schema could hold it.
  bool Add(EventType type, const void* event, size_t event_bytes, uint32_t stack);

  // What the columns hold so far. A message's tags and lengths add a few dozen bytes.
  size_t DataBytes() const { return data_bytes_; }
  const RowCounts& rows() const { return rows_; }

  // Appends every message that has rows and empties the columns.
  void AppendAndClear(WireBuffer& out);

 private:
  static constexpr int kSources = 3;
  static constexpr int kClocks = 4;
  static constexpr int kGroups = kSources * kClocks;

  // -1: a source or clock that the schema does not have.
  static int Group(EventSource source, TimeBase clock);

  // Bytes added to the columns, 0 if the event could not be added.
  size_t AddApiCall(const ApiCallEvent& event, uint32_t stack);
  size_t AddGpuFault(const GpuFaultEvent& event);
  size_t AddCpuFault(const CpuFaultEvent& event);
  size_t AddMigration(const MigrationEvent& event);
  size_t AddRegion(const RegionEvent& event);
  size_t AddKernel(const KernelEvent& event);
  size_t AddThreadSample(const ThreadSampleEvent& event);
  size_t AddProcessSample(const ProcessSampleEvent& event);
  size_t AddCounterSample(const CounterSampleEvent& event);
  size_t AddClockSample(const ClockSampleEvent& event);
  size_t AddReplay(const ReplayEvent& event);
  size_t AddMigrationWindow(const MigrationWindowEvent& event);
  size_t AddToolSample(const ToolSampleEvent& event);
  size_t AddBottomHalfSample(const BottomHalfSampleEvent& event);

  ColumnSet<4> clock_samples_;
  ColumnSet<15> api_calls_;
  ColumnSet<11> gpu_faults_[kGroups];
  ColumnSet<4> replays_[kGroups];
  ColumnSet<5> cpu_faults_[kGroups];
  ColumnSet<7> migrations_[kGroups];
  ColumnSet<8> region_events_[kGroups];
  ColumnSet<5> kernels_[kGroups];
  ColumnSet<4> thread_samples_;
  ColumnSet<4> process_samples_;
  ColumnSet<6> counter_samples_;
  ColumnSet<2> migration_windows_;
  ColumnSet<9> tool_samples_;
  ColumnSet<4> bottom_half_samples_;
  RowCounts rows_;
  size_t data_bytes_ = 0;
};

}  // namespace uvmtrace
