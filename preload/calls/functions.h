// Ids and names of everything that is intercepted, from the lists calls.inc and lookups.inc.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "record/event.h"
#include "record/recorder.h"

namespace uvmtrace {

// From 1, calls before lookups: the ids of the calls are those of FunctionDefinition.
enum FunctionId : uint16_t {
  kNoFunction = 0,
#define UVMTRACE_CALL(layer, symbol, ...) kFunction_##symbol,
#include "preload/calls/calls.inc"
  kFunction_ManagedVariable,  // no call: see managed_variables.h
  kFunction_GraphAllocation,  // no call: see DescribeNode
  // Calls that uvmtrace made itself, see preload/apply/.
  kFunction_AppliedPrefetch,
  kFunction_AppliedAdvice,
  kFunction_AppliedManaged,
  kFunction_AppliedApart,
  kCallsEnd,
  kLastCall = kCallsEnd - 1,  // the first lookup follows
#define UVMTRACE_LOOKUP(layer, symbol, ...) kFunction_##symbol,
#include "preload/doors/lookups.inc"
  kFunction_RegisterManagedVariable,  // __cudaRegisterManagedVar, see managed_variables.h
  kFunction_InitModule,               // __cudaInitModule
  kFirstLaunching,
  kBeforeLaunching = kFirstLaunching - 1,
#define UVMTRACE_LAUNCH(symbol, ...) kFunction_##symbol,
#define UVMTRACE_WAIT(symbol, ...) kFunction_##symbol,
#include "preload/calls/calls_launching.inc"
  kFunctionsEnd,
};

// Whether it launches kernels or waits for them: hooked only where changes are applied.
constexpr bool IsLaunching(FunctionId id) { return id >= kFirstLaunching; }
constexpr bool IsApplied(uint16_t id) { return id >= kFunction_AppliedPrefetch && id <= kFunction_AppliedApart; }

struct FunctionRow {
  const char* symbol;
  Layer layer;
  Operation operation;
};

// The row of an id; not for kNoFunction.
const FunctionRow& Function(FunctionId id);

// The id of an exported name, exactly; kNoFunction for any other. cudnnCreate and cublasCreate begin with "cu" as well.
FunctionId FindFunction(std::string_view symbol);

// Whether a name begins as those of the lists do: a quick no for nearly every other.
inline bool MayBeInList(const char* name) {
  if (name[0] == 'c') return name[1] == 'u';
  return name[0] == '_' && name[1] == '_' && name[2] == 'c' && name[3] == 'u';
}

// Whether an exported name of the driver is one that the list would have if it knew it: a later version of a listed
// function, or a function of a family that is listed as a whole.
bool IsNewerThanTheList(std::string_view symbol);

// The calls as the trace defines them.
std::span<const FunctionDefinition> FunctionDefinitions();

// Whether a name asked of cuGetProcAddress (cuMemAlloc) can mean an exported symbol (cuMemAlloc_v2,
// cuMemAlloc_v2_ptds).
bool NameMeansSymbol(std::string_view name, std::string_view symbol);

}  // namespace uvmtrace
