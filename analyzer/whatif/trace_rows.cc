#include "analyzer/whatif/trace_rows.h"

#include <algorithm>

#include "analyzer/read/chunk_reader.h"
#include "analyzer/read/columns.h"

namespace uvmtrace::analyzer {
namespace {

constexpr uint64_t kSourceQueue = 2;
constexpr uint64_t kMemoryManaged = 2;

int32_t Device(uint64_t column) { return static_cast<int32_t>(static_cast<int64_t>(column)); }

class RowReader {
 public:
  explicit RowReader(TraceRows* rows) : rows_(rows) {}

  void Add(const Chunk& chunk) {
    if (chunk.process) clocks_.SetStart(chunk.process->started_ns, chunk.process->started_realtime_ns);
    for (const StringDefinition& text : chunk.strings) strings_[text.id] = text.value;
    for (const FunctionDefinition& function : chunk.functions) operations_[function.id] = function.operation;
    Each(chunk, EventKind::kClockSamples, [this](const ColumnBatch& batch) { clocks_.AddSamples(batch); });
    Each(chunk, EventKind::kApiCalls, [this](const ColumnBatch& batch) { AddCalls(batch); });
    Each(chunk, EventKind::kKernels, [this](const ColumnBatch& batch) { AddKernels(batch); });
    Each(chunk, EventKind::kGpuFaults, [this](const ColumnBatch& batch) { AddGpuFaults(batch); });
    Each(chunk, EventKind::kCpuFaults, [this](const ColumnBatch& batch) { AddCpuFaults(batch); });
    Each(chunk, EventKind::kReplays, [this](const ColumnBatch& batch) { AddReplays(batch); });
  }

  // Names may be defined after their kernels.
  void Finish() {
    for (size_t i = 0; i < names_.size(); ++i) rows_->kernels[i].name = strings_[names_[i]];
    std::stable_sort(rows_->kernels.begin(), rows_->kernels.end(),
                     [](const KernelSpan& a, const KernelSpan& b) { return a.start_ns < b.start_ns; });
    std::stable_sort(rows_->faults.begin(), rows_->faults.end(),
                     [](const FaultPoint& a, const FaultPoint& b) { return a.time_ns < b.time_ns; });
  }

 private:
  template <typename Visit>
  void Each(const Chunk& chunk, EventKind kind, Visit visit) {
    for (const std::string_view message : chunk.columns[static_cast<size_t>(kind)]) {
      DecodeColumns(kind, message, &batch_);
      visit(batch_);
    }
  }
  uint64_t Monotonic(const ColumnBatch& batch, uint64_t time_ns) {
    return clocks_.ToMonotonic(batch.clock, time_ns).value_or(time_ns);
  }

  void AddCalls(const ColumnBatch& batch) {
    namespace column = api_calls;
    for (size_t row = 0; row < batch.rows; ++row) {
      if (batch[column::kResult][row] != 0) continue;
      const Operation operation = operations_[static_cast<uint32_t>(batch[column::kFunction][row])];
      const uint64_t address = batch[column::kAddress][row];
      const uint64_t end_ns = batch[column::kStart][row] + batch[column::kDuration][row];
      if (operation == Operation::kAllocate && batch[column::kMemoryKind][row] == kMemoryManaged) {
        ManagedSpan span;
        span.address = address;
        span.bytes = batch[column::kBytes][row];
        span.from_ns = end_ns;
        span.stack = static_cast<uint32_t>(batch[column::kStack][row]);
        live_[address] = rows_->memory.size();
        rows_->memory.push_back(span);
      } else if (operation == Operation::kFree) {
        const auto live = live_.find(address);
        if (live == live_.end()) continue;
        rows_->memory[live->second].to_ns = end_ns;
        live_.erase(live);
      }
    }
  }

  void AddKernels(const ColumnBatch& batch) {
    namespace column = kernels;
    for (size_t row = 0; row < batch.rows; ++row) {
      KernelSpan kernel;
      kernel.start_ns = Monotonic(batch, batch[column::kStart][row]);
      kernel.end_ns = kernel.start_ns + batch[column::kDuration][row];
      kernel.device = Device(batch[column::kDevice][row]);
      rows_->kernels.push_back(std::move(kernel));
      names_.push_back(static_cast<uint32_t>(batch[column::kName][row]));
    }
  }

  void AddGpuFaults(const ColumnBatch& batch) {
    namespace column = gpu_faults;
    if (batch.source != kSourceQueue) return;
    for (size_t row = 0; row < batch.rows; ++row) {
      const FaultPoint fault = {Monotonic(batch, batch[column::kStart][row]), batch[column::kAddress][row],
                                Device(batch[column::kDevice][row])};
      rows_->faults.push_back(fault);
      BatchSpan& span = rows_->batches[static_cast<uint32_t>(batch[column::kBatch][row])];
      span.first_ns = std::min(span.first_ns, fault.time_ns);
    }
  }

  void AddCpuFaults(const ColumnBatch& batch) {
    namespace column = cpu_faults;
    if (batch.source != kSourceQueue) return;
    for (size_t row = 0; row < batch.rows; ++row) {
      rows_->faults.push_back({Monotonic(batch, batch[column::kStart][row]), batch[column::kAddress][row], -1});
    }
  }

  void AddReplays(const ColumnBatch& batch) {
    namespace column = replays;
    for (size_t row = 0; row < batch.rows; ++row) {
      BatchSpan& span = rows_->batches[static_cast<uint32_t>(batch[column::kBatch][row])];
      span.end_ns = std::max(span.end_ns, Monotonic(batch, batch[column::kTime][row]));
    }
  }

  TraceRows* const rows_;
  ClockConverter clocks_;
  ColumnBatch batch_;
  std::unordered_map<uint32_t, std::string> strings_;
  std::unordered_map<uint32_t, Operation> operations_;
  std::unordered_map<uint64_t, size_t> live_;
  std::vector<uint32_t> names_;  // of kernels, as they were read
};

}  // namespace

Status ReadTraceRows(const std::string& path, TraceRows* rows) {
  ChunkReader reader;
  Status status = reader.Open(path);
  if (!status.ok()) return status;
  RowReader row_reader(rows);
  ChunkFrame frame;
  Chunk chunk;
  while (reader.Next(&frame)) {
    if (DecodeChunk(frame.fields, &chunk).ok()) {
      row_reader.Add(chunk);
    } else {
      reader.RejectLast();
    }
  }
  row_reader.Finish();
  return reader.Finish();
}

}  // namespace uvmtrace::analyzer
