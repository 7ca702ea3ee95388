// The lowest version of the C library that a shared library can be loaded with, as its file says.
#pragma once

#include <string>

namespace uvmtrace::launcher {

// "2.34": the newest of the GLIBC_ versions that `file` needs. Empty if the file cannot be read or needs none.
std::string GlibcFloor(const std::string& file);

}  // namespace uvmtrace::launcher
