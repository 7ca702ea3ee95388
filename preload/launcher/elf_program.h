// Whether LD_PRELOAD will have an effect on a program: it has none on static programs, nor on setuid and setgid ones.
#pragma once

#include <string>

namespace uvmtrace::launcher {

// The file that execvp would run; empty if there is none that may be executed.
std::string FindProgram(const std::string& name, const char* path_variable);

enum class PreloadEffect {
  kWorks,
  kStatic,        // no dynamic linker
  kPrivileged,    // setuid, setgid or file capabilities: the dynamic linker ignores LD_PRELOAD
  kOtherMachine,  // built for another processor: the dynamic linker cannot load the library
};

// What LD_PRELOAD does to the program in `file`. A script is judged by its interpreter, at most a few levels deep.
PreloadEffect EffectOfPreload(const std::string& file);

}  // namespace uvmtrace::launcher
