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

// What the faults of a trace say moved, and how far the driver's counters agree.
struct Reconstruction {
  std::vector<Migration> rows;  // in the order of time
  uint64_t exact_bytes =
      0;  // as the driver counted them, both directions; 0: it counted none, or there are no counters
  uint64_t unexplained_bytes = 0;
  uint64_t since_ns = 0;  // when the first of those moved, CLOCK_MONOTONIC; 0: there are none
  double explained_share = 1;
  bool counters = false;
  bool faults = false;  // the driver's queue told of any
};
analyzer::Status ReconstructTrace(const std::string& path, Reconstruction* reconstruction);

class TraceInput {
 public:
  // Recorded migrations, for who wants to compare.
  std::function<void(const Migration&)> on_recorded;

  explicit TraceInput(Reconstructor* reconstructor) : reconstructor_(reconstructor) {}
  void Add(const analyzer::Chunk& chunk);
  bool faults() const { return faults_; }
  bool counters() const { return counters_; }

 private:
  using Batch = analyzer::ColumnBatch;
  void AddCalls(const Batch& batch);
  void AddKernels(const Batch& batch);
  void AddGpuFaults(const Batch& batch);
  void AddCpuFaults(const Batch& batch);
  void AddReplays(const Batch& batch);
  void AddRegionEvents(const Batch& batch);
  void AddCounterSamples(const Batch& batch);
  void AddMigrations(const Batch& batch);
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
