// Sentences about how much of the truth the trace holds.
#pragma once

#include <string>

#include "proto/report.pb.h"

namespace uvmtrace::analyzer {

// Below both of these the difference is one of timing: the last records of one side, the last sample of the other.
inline constexpr double kCompleteShare = 0.995;
inline constexpr uint64_t kNegligibleBytes = uint64_t{1} << 20;

// The source if it is in that state, else null.
const SourceRow* SourceOf(const Capture& capture, const std::string& name, const std::string& state);
// Whether the row counts bytes that no record tells; other rows count events.
bool IsMissingBytes(const LostRow& row);
const LostRow* MissingBytesOf(const Capture& capture);
// Whether migrations that were delivered did not get into the file.
bool LostOnTheWayToTheFile(const Capture& capture);
// How much of the moved bytes is missing and why; empty: nothing that counts.
std::string CompletenessSentence(const Report& report);
// How much of the faults is missing; empty: nothing that counts, or it cannot be told.
std::string LostFaultsSentence(const Report& report);
// Whose word the numbers are; empty: there is nothing to check them against.
std::string SourceSentence(const Report& report);
// Events that were lost, damage, no end; empty: none of it.
std::string LossSentence(const Report& report);
const AccountRow* AccountOf(const Report& report, const std::string& quantity);

}  // namespace uvmtrace::analyzer
