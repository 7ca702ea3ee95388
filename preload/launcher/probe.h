// The child of `uvmtrace check`: the smallest program that makes the recorder start everything that it has.
//
// It opens libcuda, makes a context on the first GPU, allocates one page of managed memory, waits until the recorder
// has told its sources' states, and frees it. No memory of the GPU is allocated beyond what the driver takes for a
// context: managed memory that nothing touches has none.
#pragma once

#include <map>
#include <string>

namespace uvmtrace::launcher {

inline constexpr const char* kProbeVerb = "probe";

// In a probe's folder.
inline constexpr const char* kProbeTrace = "trace.pb";
inline constexpr const char* kProbeAnswers = "answers";

// What CUDA answered: lines "key value". Keys: error (no device can be used), managed (no managed memory), device,
// devices, cuda, driver, pageable, host_tables, simulated.
using Answers = std::map<std::string, std::string>;
Answers ReadAnswers(const std::string& path);

// Exit status: 0, whatever was found.
int Probe(const std::string& folder);

}  // namespace uvmtrace::launcher
