// See audit.h.
#include "cupti/audit.h"

#include <stdio.h>
#include <string.h>

#include <algorithm>
#include <string_view>

#include "cupti/counter_kinds.h"

namespace uvmtrace {
namespace {

constexpr size_t kCallbackIds = 2048;  // CUDA 13.0 has 774 and 517

struct Domain {
  CUpti_CallbackDomain cupti;
  Layer layer;
  std::atomic<uint64_t> counts[kCallbackIds];
  std::atomic<uint64_t> beyond;  // ids past the end
};

constinit Domain g_driver{CUPTI_CB_DOMAIN_DRIVER_API, Layer::kDriver, {}, {}};
constinit Domain g_runtime{CUPTI_CB_DOMAIN_RUNTIME_API, Layer::kRuntime, {}, {}};
constinit AuditOptions g_options;
constinit std::atomic<bool> g_active{false};
decltype(&cuptiGetCallbackName) g_callback_name = nullptr;

bool Same(Layer layer, std::string_view one, std::string_view other) {
  return layer == Layer::kRuntime ? SameRuntimeFunction(one, other) : one == other;
}

// "cudaMalloc", "" of "cudaMalloc_v3020"; "cudaMemPrefetchAsync", "_ptsz" of "cudaMemPrefetchAsync_v2_ptsz".
struct RuntimeName {
  std::string_view base;
  std::string_view twin;
};

std::string_view WithoutVersion(std::string_view name) {
  const size_t version = name.rfind("_v");
  if (version == std::string_view::npos || version + 2 == name.size()) return name;
  const std::string_view digits(name.data() + version + 2, name.size() - version - 2);
  const bool all_digits = std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; });
  return all_digits ? std::string_view(name.data(), version) : name;
}

RuntimeName Parse(std::string_view name) {
  name = WithoutVersion(name);
  std::string_view twin;
  if (name.ends_with("_ptds") || name.ends_with("_ptsz")) {
    twin = {name.data() + name.size() - 5, 5};
    name.remove_suffix(5);
  }
  return {WithoutVersion(name), twin};
}

uint64_t Happened(Domain& domain, std::string_view function) {
  uint64_t happened = 0;
  for (uint32_t id = 1; id < kCallbackIds; ++id) {
    const uint64_t count = domain.counts[id].load(std::memory_order_relaxed);
    const char* name = nullptr;
    if (count == 0 || g_callback_name(domain.cupti, id, &name) != CUPTI_SUCCESS || name == nullptr) continue;
    if (Same(domain.layer, name, function)) happened += count;
  }
  return happened;
}

void WriteRows(Domain& domain) {
  for (size_t i = 0; i < g_options.functions.size(); ++i) {
    if (g_options.functions[i].layer != domain.layer) continue;
    const std::string_view function = g_options.functions[i].name;
    // Exports of one function in several versions share a row, at the first of them.
    uint64_t seen = 0;
    bool first = true;
    for (size_t j = 0; j < g_options.functions.size(); ++j) {
      const FunctionDefinition& other = g_options.functions[j];
      if (other.layer != domain.layer || !Same(domain.layer, other.name, function)) continue;
      if (j < i) first = false;
      seen += g_options.seen[other.id].load(std::memory_order_relaxed);
    }
    if (!first) continue;
    const uint64_t happened = Happened(domain, function);
    if (happened != 0 || seen != 0) Recorder::Get().DefineAuditCount(function, happened, seen);
  }
  const uint64_t beyond = domain.beyond.load(std::memory_order_relaxed);
  if (beyond != 0) Recorder::Get().CountLoss("audit", "callback id that is not known here", beyond);
}

void Clear(Domain& domain) {
  for (auto& count : domain.counts) count.store(0, std::memory_order_relaxed);
  domain.beyond.store(0, std::memory_order_relaxed);
}

}  // namespace

bool SameRuntimeFunction(std::string_view one, std::string_view other) {
  const RuntimeName a = Parse(one);
  const RuntimeName b = Parse(other);
  return a.base == b.base && a.twin == b.twin;
}

void RequestAudit(const AuditOptions& options) { g_options = options; }

void StartAudit(const CuptiApi& api, void* library) {
  if (g_options.counting == nullptr) return;
  Recorder& recorder = Recorder::Get();
  g_callback_name = RealDlsymAs<decltype(&cuptiGetCallbackName)>(library, "cuptiGetCallbackName");
  if (g_callback_name == nullptr) {
    recorder.SetSourceState("audit", SourceStateKind::kUnavailable, "this libcupti has no cuptiGetCallbackName");
    return;
  }
  g_options.counting->store(true, std::memory_order_seq_cst);
  g_active.store(true, std::memory_order_release);
  CUptiResult result = api.ActivityEnable(CUPTI_ACTIVITY_KIND_DRIVER);
  if (result == CUPTI_SUCCESS) result = api.ActivityEnable(CUPTI_ACTIVITY_KIND_RUNTIME);
  if (result == CUPTI_SUCCESS) {
    recorder.SetSourceState("audit", SourceStateKind::kActive,
                            "CUPTI counts the calls of the process from the first context on");
    return;
  }
  g_options.counting->store(false, std::memory_order_relaxed);
  g_active.store(false, std::memory_order_release);
  char reason[400];
  DescribeCuptiError(result, reason, sizeof(reason));
  recorder.SetSourceState("audit", SourceStateKind::kUnavailable, reason);
}

bool CountAuditRecord(const uint8_t* record, size_t available) {
  if (available < sizeof(CUpti_ActivityAPI)) return false;
  CUpti_ActivityAPI call;
  memcpy(&call, record, sizeof(call));
  if (call.kind != CUPTI_ACTIVITY_KIND_DRIVER && call.kind != CUPTI_ACTIVITY_KIND_RUNTIME) return false;
  Domain& domain = call.kind == CUPTI_ACTIVITY_KIND_DRIVER ? g_driver : g_runtime;
  auto& count = call.cbid < kCallbackIds ? domain.counts[call.cbid] : domain.beyond;
  count.fetch_add(1, std::memory_order_relaxed);
  return true;
}

void FinishAudit() {
  if (!g_active.exchange(false, std::memory_order_acq_rel)) return;
  g_options.counting->store(false, std::memory_order_relaxed);
  WriteRows(g_runtime);
  WriteRows(g_driver);
}

void AbandonAuditAfterFork() {
  if (g_options.counting != nullptr) g_options.counting->store(false, std::memory_order_relaxed);
  g_active.store(false, std::memory_order_relaxed);
  Clear(g_driver);
  Clear(g_runtime);
}

}  // namespace uvmtrace
