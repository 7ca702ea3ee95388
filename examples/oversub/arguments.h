// What the user asked for, before any look at the machine.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "examples/common/options.h"
#include "examples/oversub/order.h"

namespace oversub {

struct Arguments : examples::CommonOptions {
  std::vector<std::string> modes;  // names from ModeNames(), in the order to run
  uint64_t chunks = 8;             // m
  uint64_t resident_chunks = 4;    // k
  uint64_t chunk_bytes = 0;        // 0: capacity / k
  int cycles = 2;
  Pattern pattern = Pattern::kSequential;
  bool initialise_in_prefill = false;
  bool optimised_host = true;
  std::string affinity = "none";
  double time_limit_seconds = 300;
  bool readonly = false;
  bool verify_host = false;
};

using ParseResult = examples::ParseResult;
ParseResult ParseArguments(int argc, char** argv, Arguments* arguments);

}  // namespace oversub
