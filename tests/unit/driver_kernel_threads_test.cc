// Names, times and GPUs of the driver's threads as the kernel prints them.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include "driver/kernel_threads.h"
#include "driver/proc_file.h"
#include "tests/unit/driver_proc_root.h"

namespace uvmtrace {
namespace {

constexpr char kUuidA[] = "GPU-00112233-4455-6677-8899-aabbccddeeff";
constexpr char kUuidB[] = "GPU-ffeeddcc-bbaa-9988-7766-554433221100";

TEST(ThreadStat, NamesMayHoldSpacesAndParentheses) {
  ThreadStat stat;
  ASSERT_TRUE(
      ParseThreadStat("42 (UVM GPU1) BH (x) S 2 0 0 0 -1 2129984 0 0 0 0 11 22 0 0 20 0 1 0 987654321 0 0\n", &stat));
  EXPECT_EQ(stat.flags, 2129984u);
  EXPECT_EQ(stat.user_ticks, 11u);
  EXPECT_EQ(stat.system_ticks, 22u);
  EXPECT_EQ(stat.start_ticks, 987654321u);
}

TEST(ThreadStat, CutOffLinesAreRefused) {
  const std::string whole = "42 (UVM GPU1 BH) S 2 0 0 0 -1 2129984 0 0 0 0 11 22 0 0 20 0 1 0 5 0 0\n";
  ThreadStat stat;
  ASSERT_TRUE(ParseThreadStat(whole.c_str(), &stat));
  for (size_t length = 0; length < whole.find(" 5 0 0"); ++length) {
    EXPECT_FALSE(ParseThreadStat(whole.substr(0, length).c_str(), &stat)) << length;
  }
}

TEST(RoleOfName, OnlyTheDriversOwnNames) {
  uint32_t number = 0;
  EXPECT_EQ(RoleOfName("UVM GPU1 BH", &number), ThreadRole::kBottomHalf);
  EXPECT_EQ(number, 1u);
  EXPECT_EQ(RoleOfName("UVM GPU32 BH", &number), ThreadRole::kBottomHalf);
  EXPECT_EQ(number, 32u);
  EXPECT_EQ(RoleOfName("UVM Tools Event", &number), ThreadRole::kToolsQueue);  // cut by kernels before 5.17
  EXPECT_EQ(RoleOfName("UVM Tools Event Queue", &number), ThreadRole::kToolsQueue);
  EXPECT_EQ(number, 0u);
  for (const char* name : {"UVM GPU1 KC", "UVM GPU BH", "UVM GPU0 BH", "UVM GPU1 BH2", "UVM GPU1 B", "UVM GPU1BH", "",
                           "uvm gpu1 bh", "UVM global queue", "UVM Tools Eventful", "UVM Tools Even", "xUVM GPU1 BH",
                           "UVM GPU99999999999 BH", "UVM Tools Event Queue 2"}) {
    EXPECT_EQ(RoleOfName(name, &number), ThreadRole::kUnknown) << name;
  }
}

TEST(GpuUuid, BothSpellingsAndNothingElse) {
  uint8_t uuid[16];
  ASSERT_TRUE(ParseGpuUuid("UVM-GPU-00112233-4455-6677-8899-AABBccddeeff/0", uuid));
  EXPECT_EQ(uuid[0], 0x00);
  EXPECT_EQ(uuid[1], 0x11);
  EXPECT_EQ(uuid[15], 0xff);
  for (const char* text : {"", "GPU-", "GI-00112233-4455-6677-8899-aabbccddeeff",
                           "GPU-00112233-4455-6677-8899-aabbccddeef", "GPU-00112233445566778899aabbccddeeff",
                           "GPU-00112233-4455-6677-8899-aabbccddeeff0", "GPU-0011223g-4455-6677-8899-aabbccddeeff"}) {
    EXPECT_FALSE(ParseGpuUuid(text, uuid)) << text;
  }
}

TEST(GpuOfThread, T16_TheNumberIsTheDriversNotTheOrdinal) {
  ProcRoot root;
  root.Link("proc/driver/nvidia-uvm/gpus/1", std::string(kUuidB) + "/0");
  root.Link("proc/driver/nvidia-uvm/gpus/9", std::string("UVM-") + kUuidA + "/0");
  uint8_t uuid[16];
  char reason[256];
  ASSERT_TRUE(FindGpuOfThread(root.path(), 2, 2, uuid, reason, sizeof reason));
  EXPECT_EQ(uuid[1], 0x11);
  ASSERT_TRUE(FindGpuOfThread(root.path(), 1, 2, uuid, reason, sizeof reason));
  EXPECT_EQ(uuid[0], 0xff);
}

TEST(GpuOfThread, OneThreadAndOneGpuBelongTogether) {
  ProcRoot root;
  root.Write(std::string("proc/driver/nvidia-uvm/gpus/") + kUuidA + "/info", "");
  uint8_t uuid[16];
  char reason[256];
  EXPECT_TRUE(FindGpuOfThread(root.path(), 3, 1, uuid, reason, sizeof reason));
  EXPECT_EQ(uuid[1], 0x11);
  EXPECT_FALSE(FindGpuOfThread(root.path(), 3, 2, uuid, reason, sizeof reason));
  root.Write(std::string("proc/driver/nvidia-uvm/gpus/") + kUuidB + "/info", "");
  EXPECT_FALSE(FindGpuOfThread(root.path(), 3, 1, uuid, reason, sizeof reason));
  EXPECT_NE(std::string(reason).find("2 GPUs for 1 threads"), std::string::npos) << reason;
}

TEST(GpuOfThread, AMaskedFolderIsUnknownWithAReason) {
  ProcRoot root;
  uint8_t uuid[16];
  char reason[256];
  EXPECT_FALSE(FindGpuOfThread(root.path(), 1, 1, uuid, reason, sizeof reason));
  EXPECT_NE(std::string(reason).find("No such file"), std::string::npos) << reason;
}

TEST(SearchDriverThreads, ContainersHaveNoKernelThreads) {
  ProcRoot root;
  root.AddThread(1, "bash", 0, 5, "0 0 0\n");
  ThreadSearch search;
  SearchDriverThreads(root.path(), &search);
  EXPECT_TRUE(search.proc_readable);
  EXPECT_FALSE(search.kernel_threads_visible);
  root.AddKernelThreads();
  SearchDriverThreads(root.path(), &search);
  EXPECT_TRUE(search.kernel_threads_visible);
  EXPECT_EQ(search.count, 0u);
}

// On a real machine a program may call itself what it likes.
TEST(SearchDriverThreads, ProgramsWithTheNameAreNotTheDriver) {
  const pid_t impostor = fork();
  if (impostor == 0) {
    prctl(PR_SET_NAME, "UVM GPU1 BH");
    pause();
    _exit(0);
  }
  char path[64];
  char name[32] = "";
  snprintf(path, sizeof path, "/proc/%d/comm", impostor);
  for (int i = 0; i < 2000 && strcmp(name, "UVM GPU1 BH\n") != 0; ++i) {
    ReadSmallFile(path, name, sizeof name);
    usleep(1000);
  }
  EXPECT_STREQ(name, "UVM GPU1 BH\n");
  ThreadSearch search;
  SearchDriverThreads("", &search);
  for (size_t i = 0; i < search.count; ++i) EXPECT_NE(search.threads[i].tid, static_cast<uint32_t>(impostor));
  kill(impostor, SIGKILL);
  waitpid(impostor, nullptr, 0);
}

TEST(ProcFile, ADescriptorThatTheProgramTookIsNeitherReadNorClosed) {
  ProcRoot root;
  root.Write("ours", "1 2 3\n");
  root.Write("theirs", "secret");
  ProcFile file;
  file.SetPath((std::string(root.path()) + "/ours").c_str());
  char text[64];
  ASSERT_EQ(file.Read(text, sizeof text), 6);
  // The program closes everything, and opens a file of its own under our number.
  int number = -1;
  for (int fd = 3; fd < 1024; ++fd) {
    char link[64];
    char target[512];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    const ssize_t length = readlink(link, target, sizeof target - 1);
    if (length > 0 && std::string(target, static_cast<size_t>(length)).ends_with("/ours")) number = fd;
  }
  ASSERT_GE(number, 3);
  close(number);
  const int theirs = open((std::string(root.path()) + "/theirs").c_str(), O_RDONLY);
  ASSERT_EQ(dup2(theirs, number), number);
  EXPECT_EQ(file.Read(text, sizeof text), 6);
  EXPECT_STREQ(text, "1 2 3\n");
  EXPECT_EQ(file.openings(), 2u);
  file.Close();
  EXPECT_EQ(pread(number, text, sizeof text, 0), 6);
  EXPECT_EQ(strncmp(text, "secret", 6), 0);
  close(number);
  close(theirs);
}

}  // namespace
}  // namespace uvmtrace
