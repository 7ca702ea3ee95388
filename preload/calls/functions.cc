#include "preload/calls/functions.h"

#include <algorithm>
#include <array>
#include <cstddef>

namespace uvmtrace {
namespace {

constexpr const char* kManagedVariable = "__managed__ variable";
constexpr const char* kGraphAllocation = "allocation node of a graph";

constexpr FunctionRow kRows[kFunctionsEnd] = {
    {nullptr, Layer::kUnknown, Operation::kOther},
#define UVMTRACE_CALL(layer, symbol, operation, ...) {#symbol, Layer::k##layer, Operation::k##operation},
#include "preload/calls/calls.inc"
    {kManagedVariable, Layer::kUnknown, Operation::kAllocate},
    {kGraphAllocation, Layer::kUnknown, Operation::kAllocate},
#define UVMTRACE_LOOKUP(layer, symbol, ...) {#symbol, Layer::k##layer, Operation::kOther},
#include "preload/doors/lookups.inc"
    {"__cudaRegisterManagedVar", Layer::kRuntime, Operation::kOther},
    {"__cudaInitModule", Layer::kRuntime, Operation::kOther},
};

constexpr FunctionDefinition kDefinitions[] = {
#define UVMTRACE_CALL(layer, symbol, operation, ...) \
  {kFunction_##symbol, #symbol, Layer::k##layer, Operation::k##operation},
#include "preload/calls/calls.inc"
    {kFunction_ManagedVariable, kManagedVariable, Layer::kUnknown, Operation::kAllocate},
    {kFunction_GraphAllocation, kGraphAllocation, Layer::kUnknown, Operation::kAllocate},
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

bool NameMeansSymbol(std::string_view name, std::string_view symbol) {
  if (name.empty() || !symbol.starts_with(name)) return false;
  std::string_view rest = symbol;
  rest.remove_prefix(name.size());
  return rest.empty() || rest.starts_with("_v") || rest == "_ptds" || rest == "_ptsz";
}

}  // namespace uvmtrace
