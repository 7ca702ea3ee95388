// CUPTI as a witness: it counts the API calls of this process by itself, whatever way the program reached them.
//
// Activity records of the kinds RUNTIME and DRIVER carry a callback id; they are counted by it as they are delivered.
// At the end each intercepted function gets a row in the trace: how often it happened, and how often a hook of ours saw
// it. Who counts hooks gives us its numbers and a flag that says when counting is on: it is set before CUPTI is asked
// to begin and cleared after the last flush, so a call of another thread in those instants is seen without having
// happened, never the other way round.
//
// A static libcudart, for one, makes runtime calls that only CUPTI knows; what they do is seen one layer below.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "cupti/cupti_api.h"
#include "record/recorder.h"

namespace uvmtrace {

struct AuditOptions {
  std::span<const FunctionDefinition> functions;
  const std::atomic<uint64_t>* seen = nullptr;  // by FunctionDefinition::id
  std::atomic<bool>* counting = nullptr;
};

// Before StartCupti.
void RequestAudit(const AuditOptions& options);

// Called by the collection. `library` is libcupti's handle.
void StartAudit(const CuptiApi& api, void* library);
// Whether the record was an API call.
bool CountAuditRecord(const uint8_t* record, size_t available);
// After the last flush: the rows. Once.
void FinishAudit();
void AbandonAuditAfterFork();

// Whether two names of the runtime mean one function. The callback ids carry the version in which a signature changed
// (cudaMemPrefetchAsync_ptsz_v12020), the exports another one (cudaMemPrefetchAsync_v2_ptsz).
bool SameRuntimeFunction(std::string_view one, std::string_view other);

}  // namespace uvmtrace
