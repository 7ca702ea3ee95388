// What a program must find in its environment to be recorded, or simulated: set in this process before it becomes, or
// starts, that program.
#pragma once

#include <string>

namespace uvmtrace::launcher {

inline constexpr int kUsage = 2;

// Says `message` on stderr. Returns the status.
int Fail(int status, const std::string& message);

// The folder that holds libuvmtrace.so: beside bin/, in the build tree and where it is installed. Empty: not found.
std::string LibraryFolder();

// Puts libuvmtrace.so into LD_PRELOAD. Returns the folder for what else lies beside it; empty: it said why not.
std::string PreloadLibrary();

// Options of --simulate; empty texts were not given.
struct Simulation {
  std::string profile;
  std::string memory;
  std::string h2d_gbps;
  std::string d2h_gbps;
};

// Puts the simulator's libraries first. False: it said why not. Does nothing where no profile was given.
bool Simulate(const Simulation& simulation, const std::string& library_folder);

void SetIfGiven(const char* variable, const std::string& value);

}  // namespace uvmtrace::launcher
