// Which details record migrations in windows only.
#pragma once

#include <string_view>

namespace uvmtrace::analyzer {

inline bool InWindowsOnly(std::string_view detail) { return detail == "exact" || detail == "sampled"; }

}  // namespace uvmtrace::analyzer
