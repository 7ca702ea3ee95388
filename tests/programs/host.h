// What the programs share: a little CUDA work, and a way to end with a message.
#pragma once

#include <stdio.h>
#include <stdlib.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>

using Scenarios = std::map<std::string, std::function<int()>>;

inline void Check(bool good, const char* what) {
  if (good) return;
  printf("FAILED: %s\n", what);
  fflush(stdout);
  abort();
}

inline int RunScenario(const Scenarios& scenarios, int argc, char** argv) {
  const auto found = argc > 1 ? scenarios.find(argv[1]) : scenarios.end();
  if (found == scenarios.end()) {
    fprintf(stderr, "usage: %s SCENARIO\n", argv[0]);
    return 64;
  }
  setvbuf(stdout, nullptr, _IONBF, 0);
  return found->second();
}
