// uvmtrace-report what-if: what a change would do to faults, bytes and time.
#pragma once

namespace uvmtrace::analyzer {

int WhatIfCommand(int argc, char** argv);

}  // namespace uvmtrace::analyzer
