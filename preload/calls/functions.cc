#include "preload/calls/functions.h"

#include <algorithm>
#include <array>
#include <cstddef>

namespace uvmtrace {
namespace {

constexpr const char* kManagedVariable = "__managed__ variable";
constexpr const char* kGraphAllocation = "allocation node of a graph";

constexpr const char* kAppliedPrefetch = "uvmtrace: cuMemPrefetchAsync";
constexpr const char* kAppliedAdvice = "uvmtrace: cuMemAdvise";
constexpr const char* kAppliedManaged = "uvmtrace: cuMemAllocManaged";
constexpr const char* kAppliedApart = "uvmtrace: cuMemAllocManaged, apart";

constexpr FunctionRow kRows[kFunctionsEnd] = {
    {nullptr, Layer::kUnknown, Operation::kOther},
#define UVMTRACE_CALL(layer, symbol, operation, ...) {#symbol, Layer::k##layer, Operation::k##operation},
#include "preload/calls/calls.inc"
    {kManagedVariable, Layer::kUnknown, Operation::kAllocate},
    {kGraphAllocation, Layer::kUnknown, Operation::kAllocate},
    {kAppliedPrefetch, Layer::kUnknown, Operation::kPrefetch},
    {kAppliedAdvice, Layer::kUnknown, Operation::kAdvise},
    {kAppliedManaged, Layer::kUnknown, Operation::kAllocate},
    {kAppliedApart, Layer::kUnknown, Operation::kAllocate},
#define UVMTRACE_LOOKUP(layer, symbol, ...) {#symbol, Layer::k##layer, Operation::kOther},
#include "preload/doors/lookups.inc"
    {"__cudaRegisterManagedVar", Layer::kRuntime, Operation::kOther},
    {"__cudaInitModule", Layer::kRuntime, Operation::kOther},
#define UVMTRACE_LAUNCH(symbol, ...) {#symbol, Layer::kDriver, Operation::kOther},
#define UVMTRACE_WAIT(symbol, ...) {#symbol, Layer::kDriver, Operation::kOther},
#include "preload/calls/calls_launching.inc"
};

constexpr FunctionDefinition kDefinitions[] = {
#define UVMTRACE_CALL(layer, symbol, operation, ...) \
  {kFunction_##symbol, #symbol, Layer::k##layer, Operation::k##operation},
#include "preload/calls/calls.inc"
    {kFunction_ManagedVariable, kManagedVariable, Layer::kUnknown, Operation::kAllocate},
    {kFunction_GraphAllocation, kGraphAllocation, Layer::kUnknown, Operation::kAllocate},
    {kFunction_AppliedPrefetch, kAppliedPrefetch, Layer::kUnknown, Operation::kPrefetch},
    {kFunction_AppliedAdvice, kAppliedAdvice, Layer::kUnknown, Operation::kAdvise},
    {kFunction_AppliedManaged, kAppliedManaged, Layer::kUnknown, Operation::kAllocate},
    {kFunction_AppliedApart, kAppliedApart, Layer::kUnknown, Operation::kAllocate},
};

struct NamedFunction {
  std::string_view symbol;
  FunctionId id;
};

constexpr auto kByName = [] {
  std::array<NamedFunction, kFunctionsEnd - 1> named{};
  for (uint16_t id = 1; id < kFunctionsEnd; ++id) named[id - 1] = {kRows[id].symbol, static_cast<FunctionId>(id)};
  std::sort(named.begin(), named.end(), [](const auto& a, const auto& b) { return a.symbol < b.symbol; });
  return named;
}();

static_assert(std::adjacent_find(kByName.begin(), kByName.end(),
                                 [](const auto& a, const auto& b) { return a.symbol == b.symbol; }) == kByName.end(),
              "a symbol stands twice in the lists");

}  // namespace

const FunctionRow& Function(FunctionId id) { return kRows[id]; }

FunctionId FindFunction(std::string_view symbol) {
  const auto* found =
      std::lower_bound(kByName.begin(), kByName.end(), symbol,
                       [](const NamedFunction& row, std::string_view name) { return row.symbol < name; });
  return found != kByName.end() && found->symbol == symbol ? found->id : kNoFunction;
}

std::span<const FunctionDefinition> FunctionDefinitions() { return kDefinitions; }

namespace {

// "cuMemFreeAsync_v2_ptsz" is version 2 of cuMemFreeAsync.
struct Versioned {
  std::string_view base;
  int version = 1;
};

Versioned SplitVersion(std::string_view symbol) {
  if (symbol.ends_with("_ptds") || symbol.ends_with("_ptsz")) symbol.remove_suffix(5);
  Versioned result{symbol};
  if (symbol.size() < 4) return result;
  const char digit = symbol.back();
  const std::string_view rest = symbol.substr(0, symbol.size() - 1);
  if (digit >= '2' && digit <= '9' && rest.ends_with("_v")) {
    result.version = digit - '0';
    result.base = rest.substr(0, rest.size() - 2);
  }
  return result;
}

}  // namespace

bool IsNewerThanTheList(std::string_view symbol) {
  const Versioned asked = SplitVersion(symbol);
  int newest = 0;
  for (uint16_t id = 1; id < kCallsEnd; ++id) {
    if (kRows[id].layer != Layer::kDriver) continue;
    const Versioned listed = SplitVersion(kRows[id].symbol);
    if (listed.base == asked.base) newest = std::max(newest, listed.version);
  }
  if (newest != 0) return asked.version > newest;
  for (const char* family : {"cuMemAlloc", "cuMemFree", "cuMemcpy", "cuMemset", "cuMemPrefetch", "cuMemAdvise",
                             "cuMemDiscard", "cuMemMap", "cuMemUnmap", "cuMemHostRegister", "cuMulticastBind"}) {
    if (asked.base.starts_with(family)) return true;
  }
  return false;
}

bool NameMeansSymbol(std::string_view name, std::string_view symbol) {
  if (name.empty() || !symbol.starts_with(name)) return false;
  std::string_view rest = symbol;
  rest.remove_prefix(name.size());
  return rest.empty() || rest.starts_with("_v") || rest == "_ptds" || rest == "_ptsz";
}

}  // namespace uvmtrace
