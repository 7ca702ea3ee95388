// See environment.h.
#include "preload/launcher/environment.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <iostream>

namespace uvmtrace::launcher {
namespace {

// LD_PRELOAD is a list that is separated by colons and blanks, and a path in it cannot be quoted. A folder whose path
// has one is reached by a link in a private folder of this user's. Empty: that cannot be made.
std::string FolderForList(const std::string& folder) {
  if (folder.find_first_of(": \t\n") == std::string::npos) return folder;
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::path base = fs::temp_directory_path(error) / ("uvmtrace-" + std::to_string(getuid()));
  if (error || base.string().find_first_of(": \t\n") != std::string::npos) return {};
  mkdir(base.c_str(), 0700);
  struct stat status;
  // Somebody else's folder, or one that others can write to, could lead anywhere.
  if (lstat(base.c_str(), &status) != 0 || !S_ISDIR(status.st_mode) || status.st_uid != getuid() ||
      (status.st_mode & 022) != 0) {
    return {};
  }
  const fs::path link = base / std::to_string(std::hash<std::string>{}(folder));
  if (symlink(folder.c_str(), link.c_str()) == 0) return link.string();
  return fs::read_symlink(link, error) == folder && !error ? link.string() : std::string();
}

void Prepend(const char* variable, const std::string& value) {
  const char* const before = getenv(variable);
  setenv(variable, before != nullptr && *before != '\0' ? (value + ":" + before).c_str() : value.c_str(), 1);
}

}  // namespace

int Fail(int status, const std::string& message) {
  std::cerr << "uvmtrace: " << message << "\n";
  return status;
}

std::string LibraryFolder() {
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return {};
  for (const char* folder : {UVMTRACE_LIBDIR, "lib", "lib64"}) {
    const std::filesystem::path candidate = (self.parent_path().parent_path() / folder).lexically_normal();
    if (std::filesystem::exists(candidate / "libuvmtrace.so", error)) return candidate.string();
  }
  return {};
}

std::string PreloadLibrary() {
  const std::string installed_folder = LibraryFolder();
  if (installed_folder.empty()) {
    Fail(kUsage, "libuvmtrace.so was not found beside this program (../" UVMTRACE_LIBDIR
                 "): install uvmtrace again, or set LD_PRELOAD yourself");
    return {};
  }
  const std::string folder = FolderForList(installed_folder);
  if (folder.empty()) {
    Fail(kUsage, installed_folder +
                     " has a blank or a colon in its path, which LD_PRELOAD cannot name, and no "
                     "link to it could be made in the folder for temporary files. Install uvmtrace "
                     "elsewhere");
    return {};
  }
  Prepend("LD_PRELOAD", folder + "/libuvmtrace.so");
  return folder;
}

bool Simulate(const Simulation& simulation, const std::string& library_folder) {
  if (simulation.profile.empty()) return true;
  const std::string simulator = library_folder + "/uvmtrace/sim";
  std::error_code error;
  if (!std::filesystem::exists(simulator + "/libcuda.so.1", error)) {
    Fail(kUsage, "--simulate: the simulator's libcuda.so.1 was not found in " + simulator);
    return false;
  }
  Prepend("LD_LIBRARY_PATH", simulator);
  setenv("UVMTRACE_SIM_PROFILE", simulation.profile.c_str(), 1);
  SetIfGiven("UVMTRACE_SIM_MEMORY", simulation.memory);
  SetIfGiven("UVMTRACE_SIM_H2D_GBPS", simulation.h2d_gbps);
  SetIfGiven("UVMTRACE_SIM_D2H_GBPS", simulation.d2h_gbps);
  return true;
}

void SetIfGiven(const char* variable, const std::string& value) {
  if (!value.empty()) setenv(variable, value.c_str(), 1);
}

}  // namespace uvmtrace::launcher
