// A folder that stands for / in tests of the driver source, with what the test puts into its /proc and /sys.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

class ProcRoot {
 public:
  ProcRoot() {
    char folder[] = "/tmp/uvmtrace_root_XXXXXX";
    EXPECT_NE(mkdtemp(folder), nullptr);
    path_ = folder;
    std::filesystem::create_directories(path_ + "/proc");
  }
  ~ProcRoot() { std::filesystem::remove_all(path_); }

  const char* path() const { return path_.c_str(); }

  void Write(const std::string& file, const std::string& text) const {
    std::filesystem::create_directories(std::filesystem::path(path_ + "/" + file).parent_path());
    std::ofstream(path_ + "/" + file) << text;
  }
  void Link(const std::string& link, const std::string& target) const {
    std::filesystem::create_directories(std::filesystem::path(path_ + "/" + link).parent_path());
    std::filesystem::create_symlink(target, path_ + "/" + link);
  }
  void Remove(const std::string& file) const { std::filesystem::remove_all(path_ + "/" + file); }

  // As the host's process ids show it: what tells a machine's /proc from a container's.
  void AddKernelThreads() const { Write("proc/2/comm", "kthreadd\n"); }

  // A thread made of files.
  void AddThread(int tid, const std::string& name, uint64_t ticks, uint64_t start_ticks,
                 const std::string& schedstat) const {
    const std::string folder = "proc/" + std::to_string(tid) + "/";
    Write(folder + "comm", name + "\n");
    // 3 state, 4 to 13, 14 utime, 15 stime, 16 to 21, 22 starttime, two more.
    Write(folder + "stat", std::to_string(tid) + " (" + name + ") S 2 0 0 0 -1 2129984 0 0 0 0 " +
                               std::to_string(ticks) + " 0 0 0 20 0 1 0 " + std::to_string(start_ticks) + " 0 0\n");
    if (!schedstat.empty()) Write(folder + "schedstat", schedstat);
  }

 private:
  std::string path_;
};

// A real thread of this process with the name of a driver's thread, shown under the root as the simulator shows it. It
// uses CPU time until it is told to stop.
class NamedThread {
 public:
  NamedThread(const ProcRoot& root, const std::string& name)
      : thread_([this, name] {
          prctl(PR_SET_NAME, name.c_str());
          tid_ = static_cast<int>(syscall(SYS_gettid));
          while (!stop_) {
            for (int i = 0; i < 100'000; ++i) spins_ = spins_ + 1;
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
          }
        }) {
    while (tid_ == 0) std::this_thread::yield();
    root.Link("proc/" + std::to_string(tid_), "/proc/" + std::to_string(getpid()) + "/task/" + std::to_string(tid_));
  }
  ~NamedThread() { Stop(); }
  void Stop() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
  }
  int tid() const { return tid_; }

 private:
  std::atomic<bool> stop_{false};
  std::atomic<int> tid_{0};
  volatile uint64_t spins_ = 0;
  std::thread thread_;  // last: it uses the others
};
