// uvmtrace-report tune, which uvmtrace tune becomes: record, advise, apply, and keep what helps.
#pragma once

namespace uvmtrace::analyzer {

int TuneCommand(int argc, char** argv);

}  // namespace uvmtrace::analyzer
