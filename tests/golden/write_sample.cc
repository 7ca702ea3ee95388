// Writes a synthetic trace to stdout: write_sample [queue|windows|hazards] > tests/golden/synthetic.pb
#include <cstdio>
#include <cstring>

#include "tests/unit/analyzer_trace_builder.h"

int main(int argc, char** argv) {
  using namespace uvmtrace::testing;
  const char* name = argc > 1 ? argv[1] : "";
  std::string bytes;
  if (std::strcmp(name, "queue") == 0) {
    bytes = QueueSampleTrace().Finish(1'003'000'000);
  } else if (std::strcmp(name, "windows") == 0) {
    bytes = WindowSampleTrace().Finish(6'003'000'000);
  } else if (std::strcmp(name, "hazards") == 0) {
    bytes = HazardSampleTrace().Finish(1'123'000'000);
  } else {
    bytes = SampleTrace().Finish(1'003'000'000);
  }
  return std::fwrite(bytes.data(), 1, bytes.size(), stdout) == bytes.size() ? 0 : 1;
}
