// Traces for the tests of hazards: calls by name, times in milliseconds since the start, everything recorded.
#pragma once

#include <map>
#include <string>

#include "tests/unit/analyzer_report_reading.h"

namespace uvmtrace::testing {

class HazardTrace {
 public:
  struct Arguments {
    uint64_t duration_ns = 10'000;
    uint64_t address = 0;
    uint64_t bytes = 0;
    uint64_t other_address = 0;
    MemoryKind kind = MEMORY_KIND_UNKNOWN;
    uint64_t flags = 0;
    uint64_t stream = 0;
    int32_t location = 0;
    uint32_t stack = 0;
    uint32_t tid = 1;
    int32_t result = 0;
  };

  // Without sources nothing but calls is known.
  explicit HazardTrace(bool sources = true) {
    if (sources) trace_.CuptiActive();
  }

  TraceBuilder& builder() { return trace_; }
  void EndChunk() { trace_.EndChunk(); }

  void Call(const std::string& name, Operation operation, uint64_t time_ms, const Arguments& arguments) {
    CallAt(name, operation, At(time_ms), arguments);
  }
  void CallAt(const std::string& name, Operation operation, uint64_t start_ns, const Arguments& arguments) {
    const auto [function, is_new] = functions_.try_emplace(name, 0);
    if (is_new) function->second = trace_.Function(name, operation);
    TraceBuilder::Call call;
    call.function = function->second;
    call.start_ns = start_ns;
    call.duration_ns = arguments.duration_ns;
    call.address = arguments.address;
    call.bytes = arguments.bytes;
    call.other_address = arguments.other_address;
    call.kind = arguments.kind;
    call.flags = arguments.flags;
    call.stream = arguments.stream;
    call.location = arguments.location;
    call.stack = arguments.stack;
    call.tid = arguments.tid;
    call.result = arguments.result;
    trace_.Add(call);
  }
  void Allocate(MemoryKind kind, uint64_t address, uint64_t bytes, uint64_t time_ms) {
    Call("cudaMalloc*", OPERATION_ALLOCATE, time_ms, {.address = address, .bytes = bytes, .kind = kind});
  }
  void Free(uint64_t address, uint64_t time_ms) { Call("cudaFree", OPERATION_FREE, time_ms, {.address = address}); }
  void FailingFree(uint64_t address, uint64_t time_ms, int32_t result) {
    Call("cudaFree", OPERATION_FREE, time_ms, {.address = address, .result = result});
  }
  void Copy(uint64_t to, uint64_t from, uint64_t time_ms) { Copy(to, from, time_ms, {}); }
  void Copy(uint64_t to, uint64_t from, uint64_t time_ms, Arguments arguments) {
    arguments.address = to;
    arguments.other_address = from;
    arguments.bytes = 4096;
    Call("cudaMemcpyAsync", OPERATION_COPY, time_ms, arguments);
  }
  void Prefetch(uint64_t address, uint64_t bytes, uint64_t time_ms, int32_t location) {
    Prefetch(address, bytes, time_ms, location, {});
  }
  void Prefetch(uint64_t address, uint64_t bytes, uint64_t time_ms, int32_t location, Arguments arguments) {
    arguments.address = address;
    arguments.bytes = bytes;
    arguments.location = location;
    Call("cudaMemPrefetchAsync", OPERATION_PREFETCH, time_ms, arguments);
  }
  void Kernel(const std::string& name, uint64_t start_ms, uint64_t end_ms, int32_t device = 0) {
    trace_.Kernel(name, At(start_ms), At(end_ms), device);
  }

  Report Finish() { return ReportOf(trace_); }

  static uint64_t At(uint64_t time_ms) { return kStart + time_ms * 1'000'000; }

 private:
  TraceBuilder trace_;
  std::map<std::string, uint32_t> functions_;
};

inline const HazardRow* RowOf(const Report& report, const std::string& hazard) {
  for (const HazardRow& row : report.hazards().rows()) {
    if (row.hazard() == hazard) return &row;
  }
  return nullptr;
}

inline HazardCheckRow CheckOf(const Report& report, const std::string& hazard) {
  for (const HazardCheckRow& check : report.hazards().checks()) {
    if (check.hazard() == hazard) return check;
  }
  ADD_FAILURE() << "nobody looked for " << hazard;
  return {};
}

// No alarm, and each hazard says why there is none.
inline void ExpectNone(const Report& report) {
  for (const HazardRow& row : report.hazards().rows()) ADD_FAILURE() << "false alarm: " << row.what();
  EXPECT_EQ(report.hazards().checks_size(), 8);
  for (const HazardCheckRow& check : report.hazards().checks()) EXPECT_NE(check.reason(), "") << check.hazard();
}

}  // namespace uvmtrace::testing
