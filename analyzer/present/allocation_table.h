// The allocations as a table: the same rows in the order of the bytes that they moved, or of the faults that they
// caused.
#pragma once

#include <optional>

#include "analyzer/present/table.h"
#include "analyzer/present/text.h"

namespace uvmtrace::analyzer {

enum class AllocationOrder { kByBytesMoved, kByFaults };

// Neighbours of one kind from one call site are one row that says how many they are, unless stacks are asked for. No
// table if no allocation faulted and the order is by faults, or if that order would show the same rows again.
std::optional<Table> AllocationTable(const Report& report, const TextOptions& options, AllocationOrder order);

}  // namespace uvmtrace::analyzer
