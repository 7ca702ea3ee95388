// The names of the simulated machines: what UVMTRACE_SIM_PROFILE and `uvmtrace run --simulate` may say.
#pragma once

inline constexpr const char* kUvmsimProfiles[] = {"tiny", "hmm", "a100-80g", "h200"};
