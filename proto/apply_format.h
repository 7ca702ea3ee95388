// What the writer of an apply file (uvmtrace-report advise) and its reader (libuvmtrace.so) agree on. The format itself
// is in uvmtrace-apply(5).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace uvmtrace {

inline constexpr int kApplyVersion = 1;
inline constexpr size_t kApplyFileBytes = size_t{1} << 20;
inline constexpr size_t kApplyChanges = 24;
inline constexpr size_t kApplyPaths = 256;    // of all changes
inline constexpr size_t kApplyFrames = 4096;  // of all paths
// Frames of one path: what a path has beyond that is left out, and the path ends with "...".
inline constexpr size_t kApplyPathFrames = 24;

// Frames in these files are in no path: their symbols differ from machine to machine, or are not exported.
inline constexpr std::string_view kApplySkippedFiles[] = {
    "libuvmtrace", "libcudart", "libcuda.so", "libc.so", "libc-", "ld-linux", "libpthread", "libpython", "libgcc_s",
};

// `file` is a name without folders.
constexpr bool IsSkippedInApplyPath(std::string_view file) {
  for (const std::string_view skipped : kApplySkippedFiles) {
    if (file.starts_with(skipped)) return true;
  }
  return false;
}

// What a change does. The names are the words of the file.
enum class ApplyAction : uint8_t {
  kPrefetchGpu,
  kPrefetchGpuAhead,
  kPrefetchHost,
  kReadMostly,
  kPreferGpu,
  kPreferHost,
  kAccessedBy,
  kManaged,
  kApart,
};
inline constexpr std::string_view kApplyActionNames[] = {
    "prefetch gpu",          "prefetch gpu ahead", "prefetch host",    "advise read-mostly", "advise preferred-gpu",
    "advise preferred-host", "advise accessed-by", "allocate managed", "allocate apart",
};
inline constexpr size_t kApplyActionCount = sizeof(kApplyActionNames) / sizeof(kApplyActionNames[0]);

// How the library tells what became of the n-th change: a source state of this name followed by n, from 1. Its reason
// is a list of name=number, in this order; "result" is that of the last call that failed.
inline constexpr std::string_view kApplySource = "apply";
inline constexpr const char* kApplyCounts[] = {"line",       "allocations", "calls",     "bytes",
                                               "suppressed", "failed",      "too_large", "result"};

}  // namespace uvmtrace
