// uvmtrace-report advise: findings as a file that uvmtrace run --apply takes.
#pragma once

namespace uvmtrace::analyzer {

int AdviseCommand(int argc, char** argv);

}  // namespace uvmtrace::analyzer
