// The options that every example has, so that one habit serves them all:
//   --json FILE --repeat N --seed N --capacity BYTES --allow-oversubscription
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace examples {

struct CommonOptions {
  std::string json_path;  // empty: none; "-": stdout, and the tables go to stderr
  int repeat = 1;
  uint64_t seed = 1;
  uint64_t capacity_bytes = 0;  // 0: the example's own choice
  bool allow_oversubscription = false;
};

// `capacity_help` says what the example does with --capacity.
void AddCommonOptions(CLI::App* app, CommonOptions* options, const std::string& capacity_help);

// A size such as 64MiB; units are powers of 1024.
void AddSizeOption(CLI::App* app, const std::string& name, uint64_t* bytes, const std::string& help);

// A comma-separated choice of `names`, or "all".
void AddChoiceOption(CLI::App* app, const std::string& name, std::vector<std::string>* chosen,
                     const std::vector<std::string>& names, const std::string& help);

enum class ParseResult { kRun, kStopOk, kStopUsage };  // kStopOk: --help was printed
ParseResult Parse(CLI::App* app, int argc, char** argv);

// Throws Refused where `managed_bytes` of managed memory do not fit into a real GPU: drivers are known to hang.
void RefuseOversubscription(uint64_t managed_bytes, uint64_t free_bytes, bool simulated, const CommonOptions& options);

}  // namespace examples
