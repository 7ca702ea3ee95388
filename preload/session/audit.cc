#include "preload/session/audit.h"

#include "cupti/audit.h"
#include "record/recorder.h"

namespace uvmtrace {

constinit std::atomic<bool> audit_counting{false};
constinit std::atomic<uint64_t> audit_seen[kCallsEnd]{};

namespace {
constinit std::atomic<bool> audit_wanted{false};
}

void WantAudit(bool possible) {
  audit_wanted.store(possible, std::memory_order_relaxed);
  if (!possible) {
    Recorder::Get().SetSourceState("audit", SourceStateKind::kDisabled, "UVMTRACE_DETAIL=calls: CUPTI is not used");
    return;
  }
  Recorder::Get().SetSourceState("audit", SourceStateKind::kIdle, "no context has been created");
  for (auto& count : audit_seen) count.store(0, std::memory_order_relaxed);  // a forked child has its parent's
  RequestAudit({.functions = FunctionDefinitions(), .seen = audit_seen, .counting = &audit_counting});
}

bool AuditWanted() { return audit_wanted.load(std::memory_order_relaxed); }

}  // namespace uvmtrace
