// See demo.h.
#include "preload/launcher/demo.h"

#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <iostream>
#include <vector>

#include "preload/launcher/environment.h"

namespace uvmtrace::launcher {
namespace {

namespace fs = std::filesystem;

std::string Printed(const std::vector<std::string>& command) {
  std::string text;
  for (const std::string& word : command) text += (text.empty() ? "" : " ") + word;
  return text;
}

[[noreturn]] void Become(const std::vector<std::string>& command) {
  std::vector<char*> arguments;
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  execv(arguments[0], arguments.data());
  std::cerr << "uvmtrace: " << command[0] << ": " << std::strerror(errno) << "\n";
  _exit(127);
}

int Run(const std::vector<std::string>& command) {
  std::cout << "demo: $ " << Printed(command) << "\n\n" << std::flush;
  const pid_t child = fork();
  if (child == 0) Become(command);
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child) return Fail(1, std::strerror(errno));
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

}  // namespace

int Demo(const std::string& out) {
  std::error_code error;
  const fs::path self = fs::read_symlink("/proc/self/exe", error);
  const std::string library_folder = LibraryFolder();
  if (library_folder.empty())
    return Fail(kUsage, "libuvmtrace.so was not found beside this program: install uvmtrace again");
  const fs::path report = self.parent_path() / "uvmtrace-report";
  const fs::path installed = fs::path(library_folder) / "uvmtrace/examples/oversub";
  const fs::path built = self.parent_path() / "examples/oversub";
  const fs::path workload = fs::exists(installed, error) ? installed : built;
  for (const auto& [file, part] :
       {std::pair{workload, "the workloads (lib/uvmtrace/examples)"},
        std::pair{fs::path(library_folder) / "uvmtrace/sim/libcuda.so.1", "the simulator (lib/uvmtrace/sim)"},
        std::pair{report, "the report (bin/uvmtrace-report)"}}) {
    if (!fs::exists(file, error)) {
      return Fail(kUsage, "demo needs " + file.string() +
                              ", which is not installed: install the part of uvmtrace that has " + part);
    }
  }
  std::cout << "demo: a simulated GPU with 64 MiB of memory is asked for 128 MiB\n";
  const int status = Run({self.string(), "run", "--simulate=tiny", "--out", out, "--", workload.string(), "--mode",
                          "uvm", "-k", "4", "-m", "8"});
  if (status != 0) return Fail(status, "the workload ended with status " + std::to_string(status));
  std::cout << "\n";
  return Run({report.string(), out});
}

}  // namespace uvmtrace::launcher
