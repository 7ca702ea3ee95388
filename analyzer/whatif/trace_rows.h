// What a what-if asks of a trace beside the rows that are replayed: who allocated which memory, which kernels ran, and
// how long batches of faults took.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "analyzer/model/clock.h"
#include "analyzer/read/chunk.h"
#include "analyzer/read/status.h"

namespace uvmtrace::analyzer {

struct ManagedSpan {
  uint64_t address = 0;
  uint64_t bytes = 0;
  uint64_t from_ns = 0;
  uint64_t to_ns = UINT64_MAX;
  uint32_t stack = 0;

  bool Holds(uint64_t at, uint64_t time_ns) const {
    return at - address < bytes && time_ns >= from_ns && time_ns <= to_ns;
  }
};

struct KernelSpan {
  uint64_t start_ns = 0;
  uint64_t end_ns = 0;
  int32_t device = 0;
  std::string name;
};

struct FaultPoint {
  uint64_t time_ns = 0;
  uint64_t address = 0;
  int32_t device = 0;  // -1: the CPU
};

struct BatchSpan {
  uint64_t first_ns = UINT64_MAX;
  uint64_t end_ns = 0;
};

struct TraceRows {
  std::vector<ManagedSpan> memory;
  std::vector<KernelSpan> kernels;                  // by start
  std::vector<FaultPoint> faults;                   // by time
  std::unordered_map<uint32_t, BatchSpan> batches;  // of the GPUs' faults
};

Status ReadTraceRows(const std::string& path, TraceRows* rows);

}  // namespace uvmtrace::analyzer
