// What the user asked for, before any look at the machine.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace oversub {

struct Arguments {
  std::vector<std::string> modes;  // names from Modes(), in the order to run; "all" is already spelled out
  uint64_t chunks = 8;             // m
  uint64_t resident_chunks = 4;    // k
  uint64_t capacity_bytes = 0;     // 0: the free device memory, and the driver evicts
  uint64_t chunk_bytes = 0;        // 0: capacity / k
  int cycles = 2;
  uint64_t seed = 1;
  double time_limit_seconds = 300;
  bool readonly = false;
  bool verify_host = false;
  bool allow_oversubscription = false;
  std::string json_path;  // empty: none; "-": stdout, and the tables go to stderr
};

enum class ParseResult { kRun, kStopOk, kStopUsage };  // kStopOk: --help was printed

ParseResult ParseArguments(int argc, char** argv, Arguments* arguments);

}  // namespace oversub
