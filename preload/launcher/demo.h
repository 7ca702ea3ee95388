// uvmtrace demo: the road from a program to its report, with what an installation brings. The bundled workload
// "oversub" asks a simulated GPU for twice its memory; its trace is then explained.
#pragma once

#include <string>

namespace uvmtrace::launcher {

// The report's exit status; kUsage where a part of the installation is missing.
int Demo(const std::string& out);

}  // namespace uvmtrace::launcher
