// Which processes share a run id: over a made-up /proc, and for this process.
#include "record/run_id.h"
#include "record_test_util.h"

namespace uvmtrace {
namespace {

using namespace uvmtrace::testing;  // NOLINT

class RunIdTest : public ::testing::Test {
 protected:
  RunIdTest() {
    std::filesystem::create_directories(proc_ / "sys/kernel/random");
    WriteFile(proc_ / "sys/kernel/random/boot_id", "11111111-2222\n");
  }
  void AddProcess(int pid, int parent, int start, const std::string& environment, const std::string& name = "python") {
    const std::string folder = proc_ / std::to_string(pid);
    std::filesystem::create_directories(folder);
    std::string stat = std::to_string(pid) + " (" + name + ") S " + std::to_string(parent);
    for (int field = 5; field < 22; ++field) stat += " " + std::to_string(field);
    WriteFile(folder + "/stat", stat + " " + std::to_string(start) + " 0 0\n");
    WriteFile(folder + "/environ", environment);
  }
  uint64_t Id(int pid) { return RunId(proc_.path().c_str(), pid); }

  static std::string Preload() {
    using namespace std::string_literals;
    return "HOME=/root\0LD_PRELOAD=/opt/libuvmtrace.so\0A=b\0"s;
  }
  TemporaryFolder proc_;
};

TEST_F(RunIdTest, ATreeSharesItAndASiblingCommandDoesNot) {
  AddProcess(1, 0, 1, "");
  AddProcess(10, 1, 5, "HOME=/root");  // the shell
  AddProcess(20, 10, 100, Preload());  // one command
  AddProcess(21, 20, 101, Preload());  // its worker
  AddProcess(22, 21, 102, Preload());  // and the worker's child
  AddProcess(30, 10, 100, Preload());  // the next command
  EXPECT_EQ(Id(20), Id(21));
  EXPECT_EQ(Id(20), Id(22));
  EXPECT_NE(Id(20), Id(30));
  EXPECT_NE(Id(20), 0u);
}

TEST_F(RunIdTest, AnUntracedAncestorEndsTheTree) {
  AddProcess(20, 1, 100, Preload());
  AddProcess(21, 20, 101, "HOME=/root");  // env -i
  AddProcess(22, 21, 102, Preload());
  EXPECT_NE(Id(20), Id(22));
}

TEST_F(RunIdTest, InjectionPathCountsAndOtherPreloadsDoNot) {
  using namespace std::string_literals;
  AddProcess(20, 1, 100, "CUDA_INJECTION64_PATH=/x/libuvmtrace.so.0\0"s);
  AddProcess(21, 20, 101, Preload());
  EXPECT_EQ(Id(20), Id(21));
  AddProcess(40, 1, 100, "LD_PRELOAD=libjemalloc.so\0NOT_LD_PRELOAD=libuvmtrace.so\0X=LD_PRELOAD=libuvmtrace.so"s);
  AddProcess(41, 40, 101, Preload());
  EXPECT_NE(Id(40), Id(41));
}

TEST_F(RunIdTest, APidThatComesAgainIsAnotherRun) {
  AddProcess(20, 1, 100, Preload());
  const uint64_t before = Id(20);
  AddProcess(20, 1, 999, Preload());
  EXPECT_NE(Id(20), before);
  AddProcess(20, 1, 100, Preload());
  EXPECT_EQ(Id(20), before);
  WriteFile(proc_ / "sys/kernel/random/boot_id", "99999999\n");
  EXPECT_NE(Id(20), before) << "another boot or machine";
}

TEST_F(RunIdTest, HiddenProcGivesEveryProcessARunOfItsOwn) {
  const std::string nowhere = proc_ / "nowhere";
  EXPECT_NE(RunId(nowhere.c_str(), 1), RunId(nowhere.c_str(), 1));
}

TEST_F(RunIdTest, TheRootHasNoTracedAncestor) {
  AddProcess(10, 1, 5, "HOME=/root");
  AddProcess(20, 10, 100, Preload());
  AddProcess(21, 20, 101, Preload());
  EXPECT_TRUE(IsRunRoot(proc_.path().c_str(), 20));
  EXPECT_FALSE(IsRunRoot(proc_.path().c_str(), 21));
  EXPECT_TRUE(IsRunRoot((proc_ / "nowhere").c_str(), 21));
}

TEST_F(RunIdTest, ANameWithParenthesesAndBlanksDoesNotConfuseIt) {
  AddProcess(20, 1, 100, Preload(), "a) S 1 (b c)");
  AddProcess(21, 20, 101, Preload(), ") ) )");
  EXPECT_EQ(Id(20), Id(21));
}

TEST_F(RunIdTest, MissingAndDamagedFilesGiveAnIdAllTheSame) {
  EXPECT_NE(Id(12345), 0u);
  AddProcess(20, 20, 100, Preload());  // its own parent
  EXPECT_NE(Id(20), 0u);
  AddProcess(30, 31, 100, Preload());  // the parent is gone
  EXPECT_NE(Id(30), 0u);
  WriteFile(proc_ / "20/stat", "garbage");
  EXPECT_NE(Id(20), 0u);
}

TEST(RunId, IsStableInThisProcess) {
  EXPECT_EQ(RunId(), RunId());
  EXPECT_NE(RunId(), 0u);
}

}  // namespace
}  // namespace uvmtrace
