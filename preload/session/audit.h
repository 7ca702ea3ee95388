// Audit mode (UVMTRACE_AUDIT=1): CUPTI counts the API calls of the process by itself, we count those that pass our
// hooks, and the trace ends with both numbers for each function. The difference is what no door saw.
#pragma once

#include <atomic>
#include <cstdint>

#include "preload/calls/functions.h"

namespace uvmtrace {

// When a session starts that is to be audited; not `possible` without CUPTI.
void WantAudit(bool possible);
// Whether the sources are to start at the first context, not at the first managed allocation.
bool AuditWanted();

// Hooks passed since CUPTI began to count, nested calls included; by function.
extern constinit std::atomic<bool> audit_counting;
extern constinit std::atomic<uint64_t> audit_seen[kCallsEnd];

inline void CountForAudit(FunctionId id) {
  if (audit_counting.load(std::memory_order_relaxed)) [[unlikely]]
    audit_seen[id].fetch_add(1, std::memory_order_relaxed);
}

}  // namespace uvmtrace
