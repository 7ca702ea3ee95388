// Runs the fuzzer's entry over mutations of small traces: the same ones each time, so that a failure can be repeated.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <random>
#include <string>

#include "tests/unit/analyzer_trace_builder.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

void RunEntry(const std::string& input) {
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()), input.size());
}

std::string Mutate(std::string input, std::mt19937_64* random) {
  static constexpr unsigned char kInteresting[] = {0x00, 0x01, 0x7f, 0x80, 0xff, 0x0a, 0x09, 0x12, 0x1a, 0xf2, 0x92};
  const int mutations = 1 + static_cast<int>((*random)() % 6);
  for (int i = 0; i < mutations && input.size() > 1; ++i) {
    const size_t position = 1 + (*random)() % (input.size() - 1);
    switch ((*random)() % 5) {
      case 0:
        input[position] = static_cast<char>(input[position] ^ (1 << (*random)() % 8));
        break;
      case 1:
        input[position] = static_cast<char>(kInteresting[(*random)() % sizeof(kInteresting)]);
        break;
      case 2:
        input.erase(position, 1 + (*random)() % 8);
        break;
      case 3:
        input.insert(position, 1 + (*random)() % 4, static_cast<char>((*random)()));
        break;
      default: {
        const size_t length = std::min<size_t>(1 + (*random)() % 64, input.size() - position);
        const std::string piece = input.substr(position, length);
        input.insert(1 + (*random)() % (input.size() - 1), piece);
      }
    }
  }
  return input;
}

}  // namespace

int main(int argc, char** argv) {
  const long rounds = argc > 1 ? std::atol(argv[1]) : 20000;
  const uvmtrace::testing::TraceBuilder samples[] = {
      uvmtrace::testing::SampleTrace(), uvmtrace::testing::QueueSampleTrace(), uvmtrace::testing::WindowSampleTrace(5),
      uvmtrace::testing::HazardSampleTrace()};
  std::mt19937_64 random(1);
  long inputs = 0;
  for (const auto& sample : samples) {
    RunEntry('\0' + sample.bytes());
    ++inputs;
  }
  for (long i = 0; i < rounds; ++i) {
    const auto& sample = samples[static_cast<size_t>(i) % std::size(samples)];
    // Whole files, and the fields of one chunk with a right checksum.
    std::string input = '\0' + sample.bytes();
    if (i % 4 != 0) {
      const auto& frames = sample.frames();
      const size_t index = random() % frames.size();
      const size_t end = index + 1 < frames.size() ? frames[index + 1] : sample.bytes().size();
      constexpr size_t kFraming = 6 + 14 + 18;
      input = '\x01' + sample.bytes().substr(frames[index] + kFraming, end - frames[index] - kFraming);
    }
    RunEntry(Mutate(std::move(input), &random));
    ++inputs;
  }
  std::printf("%ld inputs, none crashed\n", inputs);
  return 0;
}
