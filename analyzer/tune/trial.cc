#include "analyzer/tune/trial.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>

#include "analyzer/run_input.h"
#include "uvm_model/cost_model.h"

namespace uvmtrace::analyzer {
namespace {

// Phases that the program named. Those that the data shows come and go with what is changed.
bool IsNamed(const PhaseRow& phase) { return phase.origin() == "nvtx" || phase.origin() == "marker"; }

// What the run's faults and bytes cost, by the constants of the model.
uint64_t ModelNs(const Report& report) {
  const uvm_model::CostModel cost;
  const Totals& totals = report.totals();
  double ns = static_cast<double>(totals.fault_batches()) * cost.batch_ns +
              static_cast<double>(totals.cpu_faults()) * cost.cpu_fault_ns;
  for (const MigrationRow& row : report.migrations()) {
    const auto bytes = static_cast<double>(row.bytes());
    if (row.cause() == "coherence" || row.cause() == "prefetch") ns += bytes / 4096 * cost.mapped_page_ns;
    const bool to_host = row.direction() == "device_to_host";
    ns += bytes / (to_host ? cost.device_to_host_bytes_per_ns : cost.host_to_device_bytes_per_ns);
  }
  return static_cast<uint64_t>(ns);
}

int Execute(const std::vector<std::string>& words, const std::string& output) {
  std::vector<char*> arguments;
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  const pid_t child = fork();
  if (child < 0) return 126;
  if (child == 0) {
    const int file = open(output.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (file >= 0) {
      dup2(file, STDOUT_FILENO);
      dup2(file, STDERR_FILENO);
    }
    execv(arguments[0], arguments.data());
    _exit(127);
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return 126;
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

Durations DurationsOf(const Report& report) {
  Durations durations;
  for (const PhaseRow& phase : report.phases()) {
    if (IsNamed(phase)) durations[phase.name()] += phase.duration_ns();
  }
  durations[kRunTime] = report.capture().duration_ns();
  durations[kFaultWait] = report.totals().fault_service_ns();
  if (report.capture().simulated()) durations[kModelTime] = ModelNs(report);
  return durations;
}

uint64_t ScoreOf(const Report& report, const Durations& durations) {
  if (report.capture().simulated()) return durations.at(kModelTime);
  uint64_t phases_ns = 0;
  for (const auto& [name, ns] : durations) phases_ns += name.front() == '(' ? 0 : ns;
  return phases_ns != 0 ? phases_ns : durations.at(kRunTime);
}

Trial RunTrial(const TrialOptions& options, const std::string& folder, const std::string& apply_file) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  std::vector<std::string> words = {options.launcher, "run"};
  words.insert(words.end(), options.run_options.begin(), options.run_options.end());
  words.insert(words.end(), {"-o", folder + "/trace.pb"});
  if (!apply_file.empty()) words.insert(words.end(), {"--apply", apply_file});
  words.emplace_back("--");
  words.insert(words.end(), options.program.begin(), options.program.end());

  Trial trial;
  trial.exit_status = Execute(words, folder + "/output");
  std::ifstream output(folder + "/output", std::ios::binary);
  trial.output = std::hash<std::string>{}({std::istreambuf_iterator<char>(output), std::istreambuf_iterator<char>()});
  trial.recorded = std::filesystem::exists(folder + "/trace.pb", error) && ReadReport(folder, {}, &trial.report);
  if (!trial.recorded) return trial;
  trial.durations = DurationsOf(trial.report);
  trial.score = ScoreOf(trial.report, trial.durations);
  return trial;
}

}  // namespace uvmtrace::analyzer
