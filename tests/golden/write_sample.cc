// Writes the synthetic trace to stdout: write_sample > tests/golden/synthetic.pb
#include <cstdio>

#include "tests/unit/analyzer_trace_builder.h"

int main() {
  const std::string bytes = uvmtrace::testing::SampleTrace().Finish(1'003'000'000);
  return std::fwrite(bytes.data(), 1, bytes.size(), stdout) == bytes.size() ? 0 : 1;
}
