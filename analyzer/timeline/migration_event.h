// One movement of pages, whoever tells of it: the trace, or the stage that reconstructs what was not recorded.
#pragma once

#include <cstdint>

#include "analyzer/model/kinds.h"

namespace uvmtrace::analyzer {

struct MigrationEvent {
  uint64_t time_ns = 0;      // CLOCK_MONOTONIC, when the copy began
  uint64_t duration_ns = 0;  // 0: not known
  uint64_t address = 0;
  uint64_t bytes = 0;
  int32_t source = kUnknownDevice;
  int32_t destination = kUnknownDevice;
  MigrationCause cause = MigrationCause::kUnknown;
};

}  // namespace uvmtrace::analyzer
