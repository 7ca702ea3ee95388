// See check.h.
#include "preload/launcher/check.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

#include "driver/memory_left.h"
#include "preload/launcher/check_rows.h"
#include "preload/launcher/probe.h"

namespace uvmtrace::launcher {
namespace {

// CUDA takes seconds to start on a machine with many GPUs.
constexpr int kProbeSeconds = 60;
constexpr int kLookMs = 10;

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::error_code error;
    std::string path = (std::filesystem::temp_directory_path(error) / "uvmtrace-check-XXXXXX").string();
    if (!error && mkdtemp(path.data()) != nullptr) path_ = path;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// The user's own settings are those of other programs: it is the default that is told about.
void KeepDefaults() {
  std::vector<std::string> names;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string name(*variable, strcspn(*variable, "="));
    if (name.rfind("UVMTRACE_", 0) == 0 && name.rfind("UVMTRACE_SIM_", 0) != 0) names.push_back(name);
  }
  for (const std::string& name : names) unsetenv(name.c_str());
}

[[noreturn]] void BecomeProbe(const std::string& folder) {
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  dup2(null, STDOUT_FILENO);
  const char* const arguments[] = {"uvmtrace", kProbeVerb, folder.c_str(), nullptr};
  execv("/proc/self/exe", const_cast<char* const*>(arguments));
  _exit(127);
}

// How the child ended; empty: by itself, with status 0.
std::string RunProbe(const std::string& folder) {
  const pid_t child = fork();
  if (child == 0) BecomeProbe(folder);
  if (child < 0) return std::string(" was not started: ") + std::strerror(errno);
  int status = 0;
  for (int waited = 0; waited < kProbeSeconds * 1000; waited += kLookMs) {
    const pid_t ended = waitpid(child, &status, WNOHANG);
    if (ended == child && WIFSIGNALED(status)) return " was killed by signal " + std::to_string(WTERMSIG(status));
    if (ended == child && status != 0) return " ended with status " + std::to_string(WEXITSTATUS(status));
    if (ended == child) return {};
    const timespec pause{0, kLookMs * 1'000'000L};
    nanosleep(&pause, nullptr);
  }
  kill(child, SIGKILL);
  waitpid(child, &status, 0);
  return " did not end within " + std::to_string(kProbeSeconds) + " s";
}

Limits ReadLimits() {
  Limits limits;
  rlimit locked{};
  if (getrlimit(RLIMIT_MEMLOCK, &locked) == 0 && locked.rlim_cur != RLIM_INFINITY)
    limits.locked_bytes = locked.rlim_cur;
  const HostMemory memory = ReadHostMemory();
  // Control groups of version 1 say "no limit" by the largest number of pages.
  constexpr uint64_t kNoLimit = uint64_t{1} << 60;
  if (memory.group_limit_bytes != 0 && memory.group_limit_bytes < kNoLimit) {
    limits.group_limit_bytes = memory.group_limit_bytes;
    limits.group_used_bytes = memory.group_used_bytes;
  }
  return limits;
}

}  // namespace

int Check(const CheckOptions& options) {
  const TemporaryFolder folder;
  if (folder.path().empty()) {
    return Fail(kUsage,
                "no folder could be made for a trace in the folder for temporary files: set TMPDIR to one that "
                "can be written");
  }
  KeepDefaults();
  const std::string library_folder = PreloadLibrary();
  if (library_folder.empty() || !Simulate(options.simulation, library_folder)) return kUsage;
  setenv("UVMTRACE_OUT", (folder.path() + "/" + kProbeTrace).c_str(), 1);
  setenv("UVMTRACE_BH_STACKS", "1", 1);  // to learn whether they could be had
  setenv("UVMTRACE_LOG", "quiet", 1);
  Findings findings;
  findings.ended = RunProbe(folder.path());
  findings.answers = ReadAnswers(folder.path() + "/" + kProbeAnswers);
  findings.states = ReadSourceStates(folder.path() + "/" + kProbeTrace);
  findings.limits = ReadLimits();
  const Verdict verdict = Judge(findings);
  std::cout << (options.json ? AsJson(verdict) : AsText(verdict)) << std::flush;
  return verdict.complete ? 0 : 1;
}

}  // namespace uvmtrace::launcher
