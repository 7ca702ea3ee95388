#include "sim/engine/proc_root.h"

#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "sim/engine/lacks.h"

namespace uvmsim {
namespace {

namespace fs = std::filesystem;

constexpr char kPrefix[] = "uvmsim-";

std::string TemporaryFolder() {
  const char* folder = getenv("TMPDIR");
  return folder != nullptr && *folder == '/' ? folder : "/tmp";
}

// _exit and SIGKILL leave no chance to clean up; the next simulated process does it. The name holds the owner's pid.
void RemoveStale(const std::string& folder) {
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename();
    if (name.rfind(kPrefix, 0) != 0) continue;
    const int pid = atoi(name.c_str() + sizeof kPrefix - 1);
    if (pid > 0 && kill(pid, 0) != 0 && errno == ESRCH) {
      std::error_code ignored;
      fs::remove_all(entry.path(), ignored);
    }
  }
}

}  // namespace

void ProcRoot::Create(const std::vector<std::string>& gpu_uuids, const std::string& gpu_name,
                      const ModelOptions& options) {
  const std::string folder = TemporaryFolder();
  RemoveStale(folder);
  std::string path = folder + "/" + kPrefix + std::to_string(getpid()) + "-XXXXXX";
  if (mkdtemp(path.data()) == nullptr) {
    fprintf(stderr, "uvmsim: cannot make %s: %s. The simulated driver's threads will not be visible.\n", path.c_str(),
            strerror(errno));
    return;
  }
  path_ = path;
  owner_ = getpid();
  std::error_code error;
  const fs::path gpus = fs::path(path) / "proc/driver/nvidia-uvm/gpus";
  const fs::path parameters = fs::path(path) / "sys/module/nvidia_uvm/parameters";
  int number = 0;  // as in "UVM GPU1 BH"
  for (const std::string& uuid : gpu_uuids) {
    const std::string id = std::to_string(++number);
    fs::create_directories(gpus / uuid / "0", error);
    fs::create_directory_symlink(uuid + "/0", gpus / id, error);
    std::ofstream(gpus / uuid / "0" / "info")
        << "GPU ID " << id << ": " << uuid << "\nname " << gpu_name << "\nretained_count 1\n"
        << "closest_cpu_numa_node -1\n";
  }
  fs::create_directories(parameters, error);
  const auto write = [&](const char* name, int value) { std::ofstream(parameters / name) << value << "\n"; };
  write("uvm_perf_prefetch_enable", options.prefetch_enable);
  write("uvm_perf_prefetch_threshold", options.prefetch_threshold);
  write("uvm_perf_prefetch_min_faults", options.prefetch_min_faults);
  write("uvm_perf_fault_batch_count", options.fault_batch_count);
  write("uvm_perf_fault_replay_policy", 2);              // one replay after each batch
  write("uvm_perf_thrashing_enable", 0);                 // not modelled
  write("uvm_perf_access_counter_migration_enable", 0);  // not modelled
  write("uvm_global_oversubscription", 1);
  if (IsLacking(Lack::kBranch)) {
    fs::create_directories(fs::path(path) / "proc/driver/nvidia", error);
    std::ofstream(fs::path(path) / "proc/driver/nvidia/version")
        << "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  900.10  Release Build\n";
  }
}

void ProcRoot::AddThread(int tid) {
  if (path_.empty() || IsLacking(Lack::kBottomHalf)) return;
  std::error_code error;
  fs::create_directory_symlink("/proc/" + std::to_string(getpid()) + "/task/" + std::to_string(tid),
                               fs::path(path_) / "proc" / std::to_string(tid), error);
}

void ProcRoot::Remove() {
  if (path_.empty() || owner_ != getpid()) return;
  std::error_code error;
  fs::remove_all(path_, error);  // symbolic links are removed, not followed
}

}  // namespace uvmsim
