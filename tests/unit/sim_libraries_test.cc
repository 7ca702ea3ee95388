// Runs sim_program, a real nvcc binary, on the simulated libraries: each case in a process of its own, because many of
// them are about how a process ends.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>

namespace {

struct Ending {
  int status = 0;
  std::string output;  // stdout and stderr
  bool Exited(int code) const { return WIFEXITED(status) && WEXITSTATUS(status) == code; }
  bool Killed(int signal) const { return WIFSIGNALED(status) && WTERMSIG(status) == signal; }
};

class SimulatedLibraries : public testing::Test {
 protected:
  SimulatedLibraries() {
    std::string pattern = testing::TempDir() + "/uvmsim-test-XXXXXX";
    folder_ = mkdtemp(pattern.data());
  }
  ~SimulatedLibraries() override {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }

  Ending Run(const std::string& name, const std::map<std::string, std::string>& environment = {},
             const char* program = UVMSIM_PROGRAM) {
    int pipes[2];
    EXPECT_EQ(pipe(pipes), 0);
    const pid_t child = fork();
    if (child == 0) {
      dup2(pipes[1], 1);
      dup2(pipes[1], 2);
      close(pipes[0]);
      close(pipes[1]);
      setenv("LD_LIBRARY_PATH", UVMSIM_LIBRARIES, 1);
      setenv("TMPDIR", folder_.c_str(), 1);
      setenv("UVMTRACE_SIM_PROFILE", "tiny", 1);
      for (const auto& [variable, value] : environment) setenv(variable.c_str(), value.c_str(), 1);
      alarm(120);
      execl(program, program, name.c_str(), nullptr);
      _exit(126);
    }
    close(pipes[1]);
    Ending ending;
    char buffer[4096];
    for (ssize_t n = 0; (n = read(pipes[0], buffer, sizeof buffer)) > 0;)
      ending.output.append(buffer, static_cast<size_t>(n));
    close(pipes[0]);
    waitpid(child, &ending.status, 0);
    return ending;
  }
  bool FolderIsEmpty() const { return std::filesystem::is_empty(folder_); }

  void Succeeds(const std::string& name, const char* program = UVMSIM_PROGRAM) {
    const Ending ending = Run(name, {}, program);
    EXPECT_TRUE(ending.Exited(0)) << ending.status << "\n" << ending.output;
    EXPECT_TRUE(FolderIsEmpty()) << "the simulated /proc was left behind";
  }

  std::string folder_;
};

using SimulatedMemory = SimulatedLibraries;
TEST_F(SimulatedMemory, KnownBytesMoveExactlyOnceEachWay) { Succeeds("known-bytes"); }
TEST_F(SimulatedMemory, OversubscriptionMovesTheClosedFormsAndKeepsTheData) { Succeeds("oversubscribe"); }
TEST_F(SimulatedMemory, ResultsHoldUnderConcurrentCpuThreads) { Succeeds("concurrent"); }
TEST_F(SimulatedMemory, BottomHalfBurnsWhatTheModelSays) { Succeeds("bottom-half"); }
TEST_F(SimulatedMemory, AdviceAndPrefetch) { Succeeds("advice"); }
TEST_F(SimulatedMemory, EveryKindOfMemory) { Succeeds("memory"); }
TEST_F(SimulatedMemory, VirtualMemoryManagement) { Succeeds("virtual-memory"); }

using SimulatedWork = SimulatedLibraries;
TEST_F(SimulatedWork, StreamsEventsArgumentsAndVariables) { Succeeds("work"); }
TEST_F(SimulatedWork, EntryPointsAreChosenByVersionAndStream) { Succeeds("entry-points"); }
TEST_F(SimulatedWork, IllegalAddressIsSticky) { Succeeds("illegal-address"); }
TEST_F(SimulatedWork, WhatIsNotSimulatedIsNamedOnce) {
  const Ending ending = Run("unmodelled");
  EXPECT_TRUE(ending.Exited(0)) << ending.output;
  EXPECT_NE(ending.output.find("NobodyModelsThis(int*) has no model"), std::string::npos) << ending.output;
  const size_t first = ending.output.find("no cudaGraphCreate");
  EXPECT_NE(first, std::string::npos) << ending.output;
  EXPECT_EQ(ending.output.find("no cudaGraphCreate", first + 1), std::string::npos) << ending.output;
}

class SimulatedClock : public SimulatedLibraries {
 protected:
  // Without waiting: virtual times are then the same on a loaded machine.
  Ending AtOnce(const std::string& name) { return Run(name, {{"UVMTRACE_SIM_TIME_SCALE", "0"}}); }
};
TEST_F(SimulatedClock, WhatSharesNothingOverlaps) {
  const Ending ending = AtOnce("clock-overlap");
  EXPECT_TRUE(ending.Exited(0)) << ending.output;
}
TEST_F(SimulatedClock, TheDefaultStreamAndTheOthersTakeTurns) {
  const Ending ending = AtOnce("clock-default-stream");
  EXPECT_TRUE(ending.Exited(0)) << ending.output;
}
TEST_F(SimulatedClock, EachPathToTheDataHasItsOwnPrice) {
  const Ending ending = AtOnce("clock-paths");
  EXPECT_TRUE(ending.Exited(0)) << ending.output;
}
TEST_F(SimulatedClock, TheRealClockShowsModelledTimeAtTheScaleAskedFor) {
  for (const char* scale : {"0", "0.5", "1", "3"}) {
    const Ending ending = Run("clock-scale", {{"UVMTRACE_SIM_TIME_SCALE", scale}});
    EXPECT_TRUE(ending.Exited(0)) << scale << "\n" << ending.output;
  }
}
TEST_F(SimulatedClock, APrefetchIsDoneInItsCallIfItsStreamIsIdle) {
  const Ending ending = AtOnce("clock-prefetch-calls");
  EXPECT_TRUE(ending.Exited(0)) << ending.output;
}
TEST_F(SimulatedClock, NeverGoesBackWhileTheSimulatorIsLate) { Succeeds("clock-monotonic"); }
TEST_F(SimulatedClock, KernelRecordsLieBetweenLaunchAndSynchronisation) { Succeeds("clock-records"); }
TEST_F(SimulatedClock, WithoutAScaleTheSameProgramTakesTheSameTime) {
  const Ending first = AtOnce("clock-repeatable");
  EXPECT_TRUE(first.Exited(0)) << first.output;
  EXPECT_EQ(AtOnce("clock-repeatable").output, first.output);
}

using SimulatedGpus = SimulatedLibraries;
TEST_F(SimulatedGpus, AreToldApartOwnTheirMemoryAndMigrateDirectly) {
  for (const char* name : {"gpus-identity", "gpus-memory", "gpus-migration", "gpus-overlap"}) {
    const Ending ending = Run(name, {{"UVMTRACE_SIM_GPUS", "2"}, {"UVMTRACE_SIM_TIME_SCALE", "0"}});
    EXPECT_TRUE(ending.Exited(0)) << name << "\n" << ending.output;
  }
}

using SimulatedCupti = SimulatedLibraries;
TEST_F(SimulatedCupti, FlushedInTimeItIsComplete) { Succeeds("cupti-complete"); }
TEST_F(SimulatedCupti, UnflushedItLosesSilentlyBeyondTheQueue) { Succeeds("cupti-unflushed"); }
TEST_F(SimulatedCupti, DrainedEveryMillisecondItIsComplete) { Succeeds("cupti-drained"); }

class SimulatedTools : public SimulatedLibraries {
 protected:
  void Succeeds(const std::string& name) { SimulatedLibraries::Succeeds(name, UVMSIM_TOOLS_PROGRAM); }
};
TEST_F(SimulatedTools, QueueCountersAndModelAgreeToTheByte) { Succeeds("complete"); }
TEST_F(SimulatedTools, WhatDoesNotFitIsCountedByType) { Succeeds("overflow"); }
TEST_F(SimulatedTools, MigrationsAndReplaysWaitForProgressOrAFlush) { Succeeds("late"); }
TEST_F(SimulatedTools, PollWakesAtTheThreshold) { Succeeds("wakes"); }
TEST_F(SimulatedTools, CpuFaultsNameThreadAndInstruction) { Succeeds("cpu-faults"); }
TEST_F(SimulatedTools, ReadDuplicationIsToldPageByPage) { Succeeds("read-duplication"); }
TEST_F(SimulatedTools, RemoteMapsAndPreferredLocations) { Succeeds("remote-maps"); }
TEST_F(SimulatedTools, APageThatBothSidesWantThrashesIsThrottledAndPinned) {
  const Ending ending = Run("thrashing", {{"UVMTRACE_SIM_TIME_SCALE", "0"}}, UVMSIM_TOOLS_PROGRAM);
  EXPECT_TRUE(ending.Exited(0)) << ending.output;
}
TEST_F(SimulatedTools, EvictionForRoomIsNoThrashing) {
  const Ending ending = Run("capacity", {{"UVMTRACE_SIM_TIME_SCALE", "0"}}, UVMSIM_TOOLS_PROGRAM);
  EXPECT_TRUE(ending.Exited(0)) << ending.output;
}
TEST_F(SimulatedTools, AFatalFaultIsTold) { Succeeds("fatal-fault"); }
TEST_F(SimulatedTools, RefusesWhatTheDriverRefuses) { Succeeds("refuses"); }
TEST_F(SimulatedTools, AReaderMayVanishOrWriteNonsense) { Succeeds("vanishes"); }
TEST_F(SimulatedTools, AHostMayCloseAllDescriptors) { Succeeds("everything-closed"); }
TEST_F(SimulatedTools, AForkedChildHasNone) { Succeeds("fork"); }
TEST_F(SimulatedTools, WithoutWaitingItIsAsComplete) {
  const Ending ending = Run("complete", {{"UVMTRACE_SIM_TIME_SCALE", "0"}}, UVMSIM_TOOLS_PROGRAM);
  EXPECT_TRUE(ending.Exited(0)) << ending.output;
}

using SimulatedProcess = SimulatedLibraries;
TEST_F(SimulatedProcess, ASegmentationFaultElsewhereKillsAsEver) {
  for (const char* name :
       {"segmentation-fault", "touch-device-memory", "use-after-free", "raise-segv", "handlers-give-up"}) {
    const Ending ending = Run(name);
    EXPECT_TRUE(ending.Killed(SIGSEGV)) << name << " " << ending.status << "\n" << ending.output;
  }
}
TEST_F(SimulatedProcess, TheHostsHandlerGetsWhatIsNotOurs) {
  EXPECT_TRUE(Run("handler-before").Exited(21));
  EXPECT_TRUE(Run("handler-after").Exited(21));
  EXPECT_TRUE(Run("handler-after-chains").Exited(23));
}
TEST_F(SimulatedProcess, AForkedChildHasNoGpuAndEndsNormally) { Succeeds("fork"); }
TEST_F(SimulatedProcess, AChildMayStartWhatItsParentDidNot) { Succeeds("fork-first"); }
TEST_F(SimulatedProcess, ExitWithEverythingBusyKeepsTheCode) {
  for (int i = 0; i < 10; ++i) {
    const Ending ending = Run("exit-while-busy");
    ASSERT_TRUE(ending.Exited(7)) << ending.status << "\n" << ending.output;
  }
  EXPECT_TRUE(FolderIsEmpty());
}
TEST_F(SimulatedProcess, WithoutMappingsItSaysSoAndDoesNotHang) {
  const Ending ending = Run("no-mappings-left");
  EXPECT_TRUE(ending.Exited(0) || ending.Killed(SIGSEGV)) << ending.status;
  EXPECT_NE(ending.output.find("vm.max_map_count"), std::string::npos) << ending.output;
}
TEST_F(SimulatedProcess, TheNextProcessRemovesWhatAKilledOneLeft) {
  EXPECT_TRUE(Run("segmentation-fault").Killed(SIGSEGV));
  EXPECT_FALSE(FolderIsEmpty());
  Succeeds("profile");
}

using SimulatedProfile = SimulatedLibraries;
TEST_F(SimulatedProfile, EnvironmentChoosesTheMachine) {
  EXPECT_EQ(Run("profile").output, "Simulated Tiny GPU 67108864\n");
  EXPECT_EQ(Run("profile", {{"UVMTRACE_SIM_PROFILE", "a100-80g"}}).output, "Simulated A100 80GB 80000057344\n");
  EXPECT_EQ(Run("profile", {{"UVMTRACE_SIM_MEMORY", "128MiB"}}).output, "Simulated Tiny GPU 134217728\n");
  EXPECT_EQ(Run("profile", {{"UVMTRACE_SIM_MEMORY", "134217728"}}).output, "Simulated Tiny GPU 134217728\n");
}
TEST_F(SimulatedProfile, WithoutWaitingTheCountsAreTheSame) {
  for (const char* name : {"known-bytes", "oversubscribe", "cupti-complete"}) {
    const Ending ending = Run(name, {{"UVMTRACE_SIM_TIME_SCALE", "0"}});
    EXPECT_TRUE(ending.Exited(0)) << name << "\n" << ending.output;
  }
}
TEST_F(SimulatedProfile, MalformedValuesAreNamedAndIgnored) {
  for (const char* bad : {"many", "-5", "12XB", "1e400", "1", "64 MiB "}) {
    const Ending ending = Run("profile", {{"UVMTRACE_SIM_MEMORY", bad}});
    EXPECT_NE(ending.output.find("UVMTRACE_SIM_MEMORY is \"" + std::string(bad) + "\""), std::string::npos)
        << ending.output;
    EXPECT_NE(ending.output.find("67108864"), std::string::npos) << ending.output;
  }
  for (const char* variable : {"UVMTRACE_SIM_PROFILE", "UVMTRACE_SIM_H2D_GBPS", "UVMTRACE_SIM_D2H_GBPS",
                               "UVMTRACE_SIM_TIME_SCALE", "UVMTRACE_SIM_QUEUE_ENTRIES", "UVMTRACE_SIM_GPUS"}) {
    const Ending ending = Run("profile", {{variable, "x"}});
    EXPECT_NE(ending.output.find(std::string(variable) + " is \"x\""), std::string::npos) << ending.output;
    EXPECT_TRUE(ending.Exited(0));
  }
}

}  // namespace
