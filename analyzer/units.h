// Numbers for people: binary units for sizes, decimal ones for rates and times, thousands separated.
#pragma once

#include <cstdint>
#include <string>

namespace uvmtrace::analyzer {

std::string FormatBytes(uint64_t bytes);           // 1.50 GiB
std::string FormatDuration(uint64_t nanoseconds);  // 12.3 ms
std::string FormatRate(double bytes_per_second);   // 51.2 GB/s
std::string FormatCount(uint64_t count);           // 35,112
std::string FormatPercent(double fraction);        // 12.3 %

}  // namespace uvmtrace::analyzer
