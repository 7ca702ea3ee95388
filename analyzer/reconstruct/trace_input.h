// Feeds a Reconstructor from the chunks of a trace.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <unordered_map>
#include <vector>

#include "analyzer/model/clock.h"
#include "analyzer/read/chunk.h"
#include "analyzer/read/status.h"
#include "analyzer/reconstruct/reconstructor.h"

namespace uvmtrace::reconstruct {

// Reads the driver's parameters from a trace's definitions; what is not there keeps its default.
void ApplyParameter(const std::string& name, const std::string& value, Options* options);

class TraceInput {
 public:
  // Recorded migrations, for who wants to compare.
  std::function<void(const RecordedMigration&)> on_recorded;

  // Null: the rows are only decoded, as a measurement wants it.
  explicit TraceInput(Reconstructor* reconstructor) : reconstructor_(reconstructor) {}
  void Add(const analyzer::Chunk& chunk);
  bool faults() const { return faults_; }
  bool counters() const { return counters_; }

 private:
  using Batch = analyzer::ColumnBatch;
  void AddCalls(const Batch& batch);
  void AddMigrateCalls(const Batch& batch);
  void AddKernels(const Batch& batch);
  void AddGpuFaults(const Batch& batch);
  void AddCpuFaults(const Batch& batch);
  void AddReplays(const Batch& batch);
  void AddRegionEvents(const Batch& batch);
  void AddCounterSamples(const Batch& batch);
  void AddMigrations(const Batch& batch);
  template <typename Row>
  void Add(const Row& row) {
    if (reconstructor_ != nullptr) reconstructor_->Add(row);
  }
  uint64_t Monotonic(const Batch& batch, uint64_t time_ns);

  struct Function {
    analyzer::Operation operation = analyzer::Operation::kOther;
    bool attaches = false;  // cudaStreamAttachMemAsync
    bool variable = false;  // the pseudo call that tells of a __managed__ variable
  };

  Reconstructor* reconstructor_;
  analyzer::ClockConverter clocks_;
  std::unordered_map<uint32_t, Function> functions_;
  analyzer::ColumnBatch batch_;
  bool faults_ = false;
  bool counters_ = false;
};

}  // namespace uvmtrace::reconstruct
