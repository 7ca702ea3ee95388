// What became of the changes of an apply file, as sentences. The library tells counts (proto/apply_format.h).
#pragma once

#include <string>

namespace uvmtrace::analyzer {

// Whether a source state is one change's.
bool IsAppliedChange(const std::string& source);

// The counts of one change as a sentence. A reason that is none of ours comes back as it is.
std::string AppliedSentence(const std::string& reason);

}  // namespace uvmtrace::analyzer
