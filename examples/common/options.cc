#include "examples/common/options.h"

#include <CLI/CLI.hpp>
#include <algorithm>

#include "examples/common/host_memory.h"
#include "examples/common/program.h"

namespace examples {

void AddSizeOption(CLI::App* app, const std::string& name, uint64_t* bytes, const std::string& help) {
  app->add_option(name, *bytes, help)->transform(CLI::AsSizeValue(/*kb_is_1000=*/false));
}

void AddCommonOptions(CLI::App* app, CommonOptions* options, const std::string& capacity_help) {
  app->add_option("--json", options->json_path, "Write the results as JSON to this file, or to stdout for -");
  app->add_option("--repeat", options->repeat, "Repetitions, the variants in turn; the table shows median and range")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app->add_option("--seed", options->seed, "Seed of the data")->capture_default_str();
  AddSizeOption(app, "--capacity", &options->capacity_bytes, capacity_help);
  app->add_flag("--allow-oversubscription", options->allow_oversubscription,
                "On real hardware, let managed memory exceed the GPU. Drivers are known to hang in this, some beyond "
                "repair but by a reboot: only on a machine that is yours");
}

void AddChoiceOption(CLI::App* app, const std::string& name, std::vector<std::string>* chosen,
                     const std::vector<std::string>& names, const std::string& help) {
  std::string list;
  for (const std::string& each : names) list += (list.empty() ? "" : ", ") + each;
  std::vector<std::string> allowed = names;
  allowed.emplace_back("all");
  *chosen = names;
  app->add_option_function<std::vector<std::string>>(
         name,
         [chosen, names](const std::vector<std::string>& words) {
           const bool all = std::find(words.begin(), words.end(), "all") != words.end();
           *chosen = all ? names : words;
         },
         help + ": " + list + ", or all")
      ->delimiter(',')
      ->check(CLI::IsMember(allowed));
}

ParseResult Parse(CLI::App* app, int argc, char** argv) {
  try {
    app->parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app->exit(error) == 0 ? ParseResult::kStopOk : ParseResult::kStopUsage;
  }
  return ParseResult::kRun;
}

void RefuseOversubscription(uint64_t managed_bytes, uint64_t free_bytes, bool simulated, const CommonOptions& options) {
  if (managed_bytes <= free_bytes || simulated || options.allow_oversubscription) return;
  throw Refused(FormatBytes(managed_bytes) + " of managed memory were asked for, and only " + FormatBytes(free_bytes) +
                " of device memory are free. Oversubscribing a real GPU can hang its driver. Stay within it with "
                "--capacity 2GiB (the program then evicts by itself and moves the same bytes), see driver-chosen "
                "eviction on the simulator with uvmtrace run --simulate=tiny, or insist with --allow-oversubscription");
}

}  // namespace examples
