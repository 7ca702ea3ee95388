// Sentences about how much of the truth the trace holds.
#pragma once

#include <string>

#include "proto/report.pb.h"

namespace uvmtrace::analyzer {

// Whether the row counts bytes that no record tells; other rows count events.
bool IsMissingBytes(const LostRow& row);
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
