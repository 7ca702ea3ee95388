// uvmtrace run [options] -- program args...
// uvmtrace check | demo: see check.h and demo.h.
//
// run sets the environment that libuvmtrace.so reads, and becomes the program: exit status and signals are the
// program's own. Nothing here is needed to trace; LD_PRELOAD=libuvmtrace.so does the same.
#include <errno.h>
#include <gnu/libc-version.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

#include "preload/launcher/check.h"
#include "preload/launcher/demo.h"
#include "preload/launcher/elf_program.h"
#include "preload/launcher/environment.h"
#include "preload/launcher/glibc_floor.h"
#include "preload/launcher/probe.h"
#include "sim/include/uvmsim_profiles.h"

namespace uvmtrace::launcher {
namespace {

constexpr int kNotExecutable = 126;  // as a shell says it
constexpr int kNotFound = 127;

struct Options {
  std::string out;
  std::string detail;
  std::string source;
  std::string max_overhead;
  std::string stacks;
  std::string buffer_mb;
  std::string max_mb;
  std::string log;
  std::string apply;
  std::string kernels;
  Simulation simulation;
  std::vector<std::string> program;
};

// The library's own file says what it needs, whichever machine built it.
std::string Version() {
  const std::string folder = LibraryFolder();
  const std::string floor = folder.empty() ? std::string() : GlibcFloor(folder + "/libuvmtrace.so");
  std::string text = std::string("uvmtrace ") + UVMTRACE_VERSION;
  text += floor.empty() ? "\nlibuvmtrace.so was not found" : "\nlibuvmtrace.so needs glibc " + floor + " or later";
  return text + "; this machine has " + gnu_get_libc_version();
}

void WarnIfPreloadHasNoEffect(const std::string& file) {
  switch (EffectOfPreload(file)) {
    case PreloadEffect::kWorks:
      return;
    case PreloadEffect::kStatic:
      std::cerr
          << "uvmtrace: warning: " << file
          << " is statically linked: LD_PRELOAD has no effect on it, and there will be no trace. Link the program "
             "dynamically (the CUDA runtime in it may stay static).\n";
      return;
    case PreloadEffect::kPrivileged:
      std::cerr
          << "uvmtrace: warning: " << file
          << " is setuid, setgid or has file capabilities: the dynamic linker ignores LD_PRELOAD for it, and there "
             "will be no trace. Run it as the user that owns it, or take these bits away.\n";
      return;
    case PreloadEffect::kOtherMachine:
      std::cerr
          << "uvmtrace: warning: " << file
          << " is built for another processor than this uvmtrace: the library cannot be loaded into it, and there "
             "will be no trace.\n";
      return;
  }
}

int Run(const Options& options) {
  const std::string& name = options.program.front();
  const std::string file = FindProgram(name, getenv("PATH"));
  if (file.empty()) {
    std::error_code error;
    if (name.find('/') != std::string::npos && std::filesystem::exists(name, error)) {
      return Fail(kNotExecutable, name + ": not executable");
    }
    return Fail(kNotFound, name + ": program not found");
  }
  WarnIfPreloadHasNoEffect(file);

  SetIfGiven("UVMTRACE_OUT", options.out);
  SetIfGiven("UVMTRACE_DETAIL", options.detail);
  SetIfGiven("UVMTRACE_SOURCE", options.source);
  SetIfGiven("UVMTRACE_STACKS", options.stacks);
  SetIfGiven("UVMTRACE_BUFFER_MB", options.buffer_mb);
  SetIfGiven("UVMTRACE_MAX_MB", options.max_mb);
  SetIfGiven("UVMTRACE_LOG", options.log);
  if (!options.apply.empty()) {
    // The program may change its folder before its first CUDA call.
    std::error_code error;
    const std::filesystem::path apply = std::filesystem::absolute(options.apply, error);
    if (error || !std::filesystem::is_regular_file(apply, error)) {
      return Fail(kUsage, "--apply: " + options.apply + " is no file. Make one: uvmtrace-report advise TRACE -o FILE");
    }
    setenv("UVMTRACE_APPLY", apply.c_str(), 1);
  }
  if (!options.kernels.empty()) setenv("UVMTRACE_KERNELS", options.kernels == "on" ? "1" : "0", 1);
  const std::string library_folder = PreloadLibrary();
  if (library_folder.empty() || !Simulate(options.simulation, library_folder)) return kUsage;

  std::vector<char*> arguments;
  for (const std::string& argument : options.program) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  execv(file.c_str(), arguments.data());
  const int error = errno;
  if (error == ENOEXEC) {  // a script without "#!", which a shell would run
    arguments.insert(arguments.begin(), const_cast<char*>("/bin/sh"));
    arguments[1] = const_cast<char*>(file.c_str());
    execv("/bin/sh", arguments.data());
  }
  return Fail(error == ENOENT ? kNotFound : kNotExecutable, file + ": " + std::strerror(error));
}

void AddSimulation(CLI::App* command, Simulation* simulation) {
  CLI::Option* const simulate =
      command
          ->add_option("--simulate", simulation->profile,
                       "Use a simulated GPU instead of the machine's: tiny, hmm, a100-80g or h200")
          ->check(CLI::IsMember(std::vector<std::string>(std::begin(kUvmsimProfiles), std::end(kUvmsimProfiles))));
  command->add_option("--sim-memory", simulation->memory, "Memory of the simulated GPU, such as 64MiB")
      ->needs(simulate);
  command->add_option("--sim-h2d-gbps", simulation->h2d_gbps, "Bandwidth to the simulated GPU, in GB/s")
      ->needs(simulate)
      ->check(CLI::PositiveNumber);
  command->add_option("--sim-d2h-gbps", simulation->d2h_gbps, "Bandwidth from the simulated GPU, in GB/s")
      ->needs(simulate)
      ->check(CLI::PositiveNumber);
}

// The report's program has what tuning needs: it reads traces.
int Tune(int argc, char** argv) {
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  const std::string report = (self.parent_path() / "uvmtrace-report").string();
  std::vector<char*> arguments = {const_cast<char*>(report.c_str())};
  arguments.insert(arguments.end(), argv + 1, argv + argc);
  arguments.push_back(nullptr);
  execv(report.c_str(), arguments.data());
  return Fail(kUsage,
              report + ": " + std::strerror(errno) + ". Install uvmtrace again: tune needs it beside this program");
}

int Main(int argc, char** argv) {
  if (argc > 1 && std::strcmp(argv[1], "tune") == 0) return Tune(argc, argv);
  CLI::App app("Records what a CUDA program does with its memory. uvmtrace-report explains the trace.", "uvmtrace");
  app.set_version_flag("--version", &Version);
  app.require_subcommand(1);
  Options options;
  CLI::App* const run =
      app.add_subcommand("run", "Run a program under the recorder: uvmtrace run [options] -- program [args...]");
  run->add_option("-o,--out", options.out, "File to write (default trace.pb); %p is the pid, %h the host");
  run->add_option("--detail", options.detail,
                  "What to record (default exact); exact: faults and exact totals, from which the report reconstructs "
                  "migrations; full: each migration; calls: no faults and migrations; light: exact without its check; "
                  "sampled: exact with migrations for 5 % of the time; auto: an older name of exact")
      ->check(CLI::IsMember({"calls", "light", "sampled", "exact", "full", "auto"}));
  run->add_option("--source", options.source,
                  "Who tells of faults and migrations (default auto: the driver's queue where it works, else CUPTI)")
      ->check(CLI::IsMember({"auto", "queue", "cupti"}));
  run->add_option("--max-overhead", options.max_overhead, "Without effect; accepted because older scripts set it")
      ->group("");
  run->add_option("--stacks", options.stacks, "Frames of a call stack (default 32), 0 for none")
      ->check(CLI::Range(0, 128));
  run->add_option("--buffer-mb", options.buffer_mb, "Memory for buffers in MiB (default 64)")
      ->check(CLI::Range(4, 4096));
  run->add_option("--max-mb", options.max_mb,
                  "Size of the trace in MiB at which events are no longer written (default none)")
      ->check(CLI::Range(1, 1 << 20));
  run->add_option("--log", options.log, "Lines on stderr (default warn)")
      ->check(CLI::IsMember({"quiet", "warn", "info", "debug"}));
  run->add_option("--apply", options.apply,
                  "Make the changes of this file while the program runs: uvmtrace-apply(5). uvmtrace-report advise "
                  "writes one");
  run->add_option("--kernels", options.kernels,
                  "Record kernels; on: launches and waits as well; off: CUPTI cannot be held up by calls that wait for "
                  "the GPU")
      ->check(CLI::IsMember({"on", "off"}));
  AddSimulation(run, &options.simulation);
  CheckOptions check_options;
  CLI::App* const check = app.add_subcommand(
      "check",
      "Say in ten lines what would be recorded here. Exit status: 0 everything that the detail exact has, 1 not");
  check->add_flag("--json", check_options.json, "The same as JSON");
  AddSimulation(check, &check_options.simulation);
  std::string probe_folder;
  CLI::App* const probe = app.add_subcommand(kProbeVerb, "The child of check")->group("");
  probe->add_option("folder", probe_folder)->required();
  std::string demo_out = "trace.pb";
  CLI::App* const demo =
      app.add_subcommand("demo", "Record a workload that oversubscribes a simulated GPU, and report");
  demo->add_option("-o,--out", demo_out, "File to write (default trace.pb)");
  app.add_subcommand("tune", "Find out which changes help a program: uvmtrace tune [options] -- program [args...]");
  run->prefix_command();  // without --, options end at the first word that is none
  // What stands after -- is the program's, letter for letter.
  char** const own_end = std::find_if(argv, argv + argc, [](const char* word) { return std::strcmp(word, "--") == 0; });
  try {
    app.parse(static_cast<int>(own_end - argv), argv);
  } catch (const CLI::ParseError& error) {
    const int status = app.exit(error);
    return status == 0 ? 0 : kUsage;
  }
  if (!run->parsed() && own_end < argv + argc) return Fail(kUsage, "only uvmtrace run takes a program");
  if (check->parsed()) return Check(check_options);
  if (probe->parsed()) return Probe(probe_folder);
  if (demo->parsed()) return Demo(demo_out);
  options.program = run->remaining();
  for (char** word = own_end; word < argv + argc; ++word) {
    if (word != own_end) options.program.emplace_back(*word);
  }
  if (options.program.empty()) {
    return Fail(kUsage, "no program was given. Usage: uvmtrace run [options] -- program [args...]");
  }
  return Run(options);
}

}  // namespace
}  // namespace uvmtrace::launcher

int main(int argc, char** argv) {
  try {
    return uvmtrace::launcher::Main(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << "uvmtrace: " << error.what() << "\n";
    return 1;
  }
}
