// What happens to a file that is already there, and what is refused.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <set>

#include "record/output_file.h"
#include "record_test_util.h"

namespace uvmtrace {
namespace {

using namespace uvmtrace::testing;  // NOLINT

std::string Frame(uint64_t run_id) {
  uint8_t frame[kChunkFrameBytes] = {};
  PutChunkFrame(frame, sizeof(frame), run_id, 0);
  return {reinterpret_cast<char*>(frame), sizeof(frame)};
}

class OutputFileTest : public ::testing::Test {
 protected:
  std::string OpenAndWrite(OutputFile& file, const std::string& path, uint64_t run_id) {
    if (!file.Open(path.c_str(), run_id)) return "";
    const std::string frame = Frame(run_id);
    EXPECT_EQ(file.Write(frame.data(), frame.size()), 0);
    return file.path();
  }
  // Opens, expects a refusal, and returns what was said on stderr.
  std::string Refusal(const std::string& path) {
    OutputFile file;
    ::testing::internal::CaptureStderr();
    EXPECT_FALSE(file.Open(path.c_str(), 1));
    const std::string said = ::testing::internal::GetCapturedStderr();
    EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << said;
    EXPECT_EQ(said.rfind("uvmtrace: ", 0), 0u) << said;
    EXPECT_NE(said.find(path), std::string::npos) << said;
    EXPECT_NE(said.find("UVMTRACE_OUT"), std::string::npos) << said;
    EXPECT_STREQ(file.path(), "");
    return said;
  }
  std::string WithPid(int number = 1) {
    return folder_ / ("trace." + std::to_string(getpid()) + (number > 1 ? "." + std::to_string(number) : "") + ".pb");
  }

  TemporaryFolder folder_;
  std::string path_ = folder_ / "trace.pb";
};

TEST(PathTemplate, Expands) {
  char out[64];
  ASSERT_TRUE(ExpandPathTemplate("/tmp/%h.%p.%%.%x.pb", 42, "node1", out, sizeof(out)));
  EXPECT_STREQ(out, "/tmp/node1.42.%.%x.pb");
  ASSERT_TRUE(ExpandPathTemplate("trace%", 42, "node1", out, sizeof(out)));
  EXPECT_STREQ(out, "trace%");
  EXPECT_FALSE(ExpandPathTemplate("", 42, "node1", out, sizeof(out)));
  EXPECT_FALSE(ExpandPathTemplate(std::string(64, 'a').c_str(), 42, "node1", out, sizeof(out)));
  EXPECT_TRUE(ExpandPathTemplate(std::string(63, 'a').c_str(), 42, "node1", out, sizeof(out)));
}

TEST(PathTemplate, AHostsNameNeverLeavesTheFolder) {
  const std::pair<const char*, const char*> cases[] = {
      {"../../etc/passwd", "_._.._etc_passwd"}, {"..", "_."},        {".", "_"},       {"/", "_"},
      {"node-1.cluster", "node-1.cluster"},     {"a\nb c", "a_b_c"}, {"%p%h", "_p_h"}, {"\xc3\xa4", "__"},
  };
  for (const auto& [host, expected] : cases) {
    char out[64];
    ASSERT_TRUE(ExpandPathTemplate("/tmp/%h/t.%h", 42, host, out, sizeof(out)));
    EXPECT_EQ(std::string(out), std::string("/tmp/") + expected + "/t." + expected);
  }
  char out[200];
  ASSERT_TRUE(ExpandPathTemplate("%h", 42, std::string(1000, 'a').c_str(), out, sizeof(out)));
  EXPECT_EQ(strlen(out), 65u);
}

TEST(PathTemplate, PidGoesBeforeTheExtensionOfTheName) {
  char out[64];
  ASSERT_TRUE(InsertPid("a.b/trace.pb", 7, 1, out, sizeof(out)));
  EXPECT_STREQ(out, "a.b/trace.7.pb");
  ASSERT_TRUE(InsertPid("a.b/trace", 7, 3, out, sizeof(out)));
  EXPECT_STREQ(out, "a.b/trace.7.3");
  ASSERT_TRUE(InsertPid(".hidden", 7, 1, out, sizeof(out)));
  EXPECT_STREQ(out, ".hidden.7");
  EXPECT_FALSE(InsertPid("trace.pb", 7, 1, out, 10));
}

TEST_F(OutputFileTest, IsCreatedForItsOwnerAlone) {
  OutputFile file;
  const mode_t old = umask(0);
  EXPECT_EQ(OpenAndWrite(file, path_, 1), path_);
  umask(old);
  struct stat status;
  ASSERT_EQ(stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  EXPECT_EQ(file.bytes_written(), kChunkFrameBytes);
  file.Close();
}

TEST_F(OutputFileTest, AnOldRunsFileIsRenamedAndItsOldOneReplaced) {
  WriteFile(path_, Frame(111) + "previous");
  WriteFile(path_ + ".old", Frame(7) + "the one before");
  OutputFile file;
  EXPECT_EQ(OpenAndWrite(file, path_, 222), path_);
  EXPECT_EQ(ReadFile(path_ + ".old"), Frame(111) + "previous");
  EXPECT_EQ(ReadFile(path_), Frame(222));
  file.Close();
}

TEST_F(OutputFileTest, AFileThatIsNoTraceIsLeftAlone) {
  WriteFile(path_, "notes");
  EXPECT_NE(Refusal(path_).find("is not a trace"), std::string::npos);
  EXPECT_EQ(ReadFile(path_), "notes");
  EXPECT_FALSE(std::filesystem::exists(path_ + ".old"));
}

TEST_F(OutputFileTest, AnOldFileThatIsNoTraceIsNotReplaced) {
  WriteFile(path_, Frame(111));
  WriteFile(path_ + ".old", "notes");
  EXPECT_NE(Refusal(path_).find(path_ + ".old is there and is not a trace"), std::string::npos);
  EXPECT_EQ(ReadFile(path_), Frame(111));
  EXPECT_EQ(ReadFile(path_ + ".old"), "notes");
}

TEST_F(OutputFileTest, AnEmptyFileIsTakenAfterAMoment) {
  WriteFile(path_, "");
  OutputFile file;
  EXPECT_EQ(OpenAndWrite(file, path_, 1), path_);
  EXPECT_EQ(ReadFile(path_), Frame(1));
  EXPECT_FALSE(std::filesystem::exists(path_ + ".old"));
  file.Close();
}

TEST_F(OutputFileTest, AFinishedProcessOfTheSameRunIsNotOverwritten) {
  WriteFile(path_, Frame(5) + "x");
  OutputFile file;
  EXPECT_EQ(OpenAndWrite(file, path_, 5), WithPid());
  EXPECT_EQ(ReadFile(path_), Frame(5) + "x");
  // exec in the same pid: a third one of the run.
  file.Close();
  OutputFile next;
  EXPECT_EQ(OpenAndWrite(next, path_, 5), WithPid(2));
  next.Close();
  EXPECT_FALSE(std::filesystem::exists(path_ + ".old"));
}

TEST_F(OutputFileTest, AStaleFileUnderOurPidIsRenamed) {
  WriteFile(path_, Frame(5));
  WriteFile(WithPid(), Frame(4));
  OutputFile file;
  EXPECT_EQ(OpenAndWrite(file, path_, 5), WithPid());
  EXPECT_EQ(ReadFile(WithPid() + ".old"), Frame(4));
  file.Close();
}

TEST_F(OutputFileTest, AFileBeingWrittenIsLeftAloneWhoeverItIs) {
  OutputFile first;
  OpenAndWrite(first, path_, 111);
  const int status = InChild([&] {
    OutputFile second;
    EXPECT_EQ(OpenAndWrite(second, path_, 222), WithPid());
  });
  EXPECT_TRUE(ExitedWell(status));
  EXPECT_EQ(ReadFile(path_), Frame(111));
  first.Close();
  // Now it is a dead file of another run.
  OutputFile third;
  EXPECT_EQ(OpenAndWrite(third, path_, 333), path_);
  third.Close();
}

TEST_F(OutputFileTest, EightProcessesAtOnceGetEightFiles) {
  WriteFile(path_, Frame(1));  // an older run's, for them to fight over
  std::vector<pid_t> children;
  for (int i = 0; i < 8; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      OutputFile file;
      const bool good = file.Open(path_.c_str(), 2);
      const std::string frame = Frame(2);
      if (good) file.Write(frame.data(), frame.size());
      usleep(100'000);
      _exit(good ? 0 : 1);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT_TRUE(ExitedWell(status));
  }
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder_.path())) {
    const std::string content = ReadFile(entry.path());
    if (entry.path() == path_ + ".old") {
      EXPECT_EQ(content, Frame(1));
    } else {
      EXPECT_EQ(content, Frame(2)) << entry.path();
      ++files;
    }
  }
  EXPECT_EQ(files, 8);
}

TEST_F(OutputFileTest, ASymbolicLinkIsNotFollowed) {
  WriteFile(folder_ / "victim", "precious");
  ASSERT_EQ(symlink((folder_ / "victim").c_str(), path_.c_str()), 0);
  EXPECT_NE(Refusal(path_).find("symbolic link"), std::string::npos);
  EXPECT_EQ(ReadFile(folder_ / "victim"), "precious");
}

TEST_F(OutputFileTest, AFifoAndAFolderAreRefusedWithoutWaiting) {
  ASSERT_EQ(mkfifo(path_.c_str(), 0600), 0);
  EXPECT_NE(Refusal(path_).find("fifo"), std::string::npos);
  EXPECT_NE(Refusal(folder_.path()).find("folder"), std::string::npos);
}

TEST_F(OutputFileTest, AMissingFolderIsNamed) {
  EXPECT_NE(Refusal(folder_ / "no/such/trace.pb").find("folder does not exist"), std::string::npos);
}

TEST_F(OutputFileTest, AReadOnlyFolderIsNamed) {
  if (geteuid() == 0) {
    // Root may write anywhere: be somebody else for a moment, in a child.
    chmod(folder_.path().c_str(), 0555);
    const int status = InChild([&] {
      ASSERT_EQ(setuid(65534), 0);
      EXPECT_NE(Refusal(path_).find("Permission denied"), std::string::npos);
    });
    EXPECT_TRUE(ExitedWell(status));
    return;
  }
  chmod(folder_.path().c_str(), 0555);
  EXPECT_NE(Refusal(path_).find("Permission denied"), std::string::npos);
}

TEST_F(OutputFileTest, DevNullSwallowsAndDevFullRefuses) {
  OutputFile null;
  ASSERT_TRUE(null.Open("/dev/null", 1));
  EXPECT_EQ(null.Write("abc", 3), 0);
  null.Close();
  OutputFile full;
  ASSERT_TRUE(full.Open("/dev/full", 1));
  EXPECT_EQ(full.Write("abc", 3), ENOSPC);
  EXPECT_EQ(full.bytes_written(), 0u);
  full.Close();
}

TEST_F(OutputFileTest, APartialWriteIsTakenBack) {
  const int status = InChild([&] {
    OutputFile file;
    ASSERT_TRUE(file.Open(path_.c_str(), 1));
    signal(SIGXFSZ, SIG_IGN);
    ASSERT_EQ(file.Write(std::string(1000, 'a').data(), 1000), 0);
    const rlimit limit = {1500, RLIM_INFINITY};
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
    EXPECT_EQ(file.Write(std::string(1000, 'b').data(), 1000), EFBIG);
    EXPECT_EQ(std::filesystem::file_size(path_), 1000u);
    EXPECT_EQ(file.Write(std::string(400, 'c').data(), 400), 0) << "a smaller one still fits";
    EXPECT_EQ(ReadFile(path_), std::string(1000, 'a') + std::string(400, 'c'));
  });
  EXPECT_TRUE(ExitedWell(status));
}

TEST_F(OutputFileTest, AHostThatClosesEveryFileDoesNotGetOurBytesInItsOwn) {
  const int status = InChild([&] {
    OutputFile file;
    ASSERT_EQ(OpenAndWrite(file, path_, 1), path_);
    // Files of the host keep their low numbers.
    EXPECT_LT(open("/dev/null", O_RDONLY), 100);
    for (int fd = 3; fd < 2000; ++fd) close(fd);
    // Its next files take every number, ours among them.
    const std::string victim = folder_ / "victim";
    for (int i = 0; i < 700; ++i) open(victim.c_str(), O_WRONLY | O_CREAT, 0600);
    EXPECT_EQ(file.Write("more", 4), 0);
    EXPECT_EQ(ReadFile(victim), "");
    EXPECT_EQ(ReadFile(path_), Frame(1) + "more");
    unlink(path_.c_str());
    for (int fd = 3; fd < 2000; ++fd) close(fd);
    EXPECT_EQ(file.Write("gone", 4), EBADF);
  });
  EXPECT_TRUE(ExitedWell(status));
}

}  // namespace
}  // namespace uvmtrace
