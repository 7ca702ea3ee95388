#include "examples/oversub/experiment.h"

#include <algorithm>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <stdexcept>

#include "examples/common/program.h"

namespace oversub {
namespace {

using Clock = std::chrono::steady_clock;
using examples::Check;

double SecondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

std::string Ordinal(int number) {
  const int tens = number % 100 / 10;
  const int ones = number % 10;
  const char* const suffix = tens == 1 ? "th" : ones == 1 ? "st" : ones == 2 ? "nd" : ones == 3 ? "rd" : "th";
  return std::to_string(number) + suffix;
}

[[noreturn]] void ReportMismatch(const char* reader, const std::string& when, const CheckResult& result) {
  char text[256];
  std::snprintf(text, sizeof(text),
                "the %s found %llu wrong words %s; the first: chunk %" PRIu64 ", word %" PRIu64 ": expected %016" PRIx64
                ", found %016" PRIx64,
                reader, result.mismatches, when.c_str(), result.chunk, result.index, result.expected, result.found);
  throw examples::WrongData(text);
}

class Experiment {
 public:
  Experiment(const std::string& mode_name, const Plan& plan, Visitor* visitor)
      : plan_(plan), visitor_(visitor), mode_(MakeMode(mode_name, plan, visitor->stream())) {
    result_.mode = mode_name;
  }

  Result Run() {
    Allocate();
    Initialise();
    started_ = Clock::now();
    const uint64_t prefill = std::min(plan_.resident_chunks, plan_.chunks);
    for (int cycle = 0; cycle < plan_.cycles; ++cycle) {
      if (cycle == 0) {
        VisitChunks("prefill", 0, prefill, cycle);
        VisitChunks("rest of 1st cycle", prefill, plan_.chunks, cycle);
      } else {
        VisitChunks(Ordinal(cycle + 1) + " cycle", 0, plan_.chunks, cycle);
      }
      const CheckResult check = visitor_->Read();
      if (check.mismatches != 0) ReportMismatch("kernel", "in the " + Ordinal(cycle + 1) + " cycle", check);
    }
    if (plan_.verify_host) VerifyOnHost();
    return result_;
  }

 private:
  void Allocate() {
    const auto start = Clock::now();
    mode_->Allocate();
    result_.pinning_seconds = mode_->pinning_seconds();
    result_.allocation_seconds = SecondsSince(start) - result_.pinning_seconds;
  }

  void Initialise() {
    const auto start = Clock::now();
    for (uint64_t chunk = 0; chunk < plan_.chunks; ++chunk) {
      uint64_t* const words = mode_->HostView(chunk);
      const uint64_t pattern = PatternOfVisit(plan_.seed, chunk, 0);
      for (uint64_t i = 0; i < plan_.words_per_chunk(); ++i) words[i] = WordOfPattern(pattern, i);
    }
    result_.initialisation_seconds = SecondsSince(start);
  }

  // Chunks [first, last) of one cycle, as one timed phase.
  void VisitChunks(const std::string& name, uint64_t first, uint64_t last, int cycle) {
    const Traffic traffic_before = mode_->traffic();
    const auto start = Clock::now();
    for (uint64_t chunk = first; chunk < last; ++chunk) {
      uint64_t* const words = mode_->BringIn(chunk);
      visitor_->Enqueue(words, plan_.words_per_chunk(), chunk, PatternBefore(chunk, cycle),
                        PatternBefore(chunk, cycle + 1), plan_.readonly);
      Check(cudaStreamSynchronize(visitor_->stream()), "visiting chunk " + std::to_string(chunk));
      CheckTimeLimit();
    }
    Phase phase{name, SecondsSince(start), mode_->traffic()};
    phase.traffic.host_to_device_bytes -= traffic_before.host_to_device_bytes;
    phase.traffic.device_to_host_bytes -= traffic_before.device_to_host_bytes;
    result_.phases.push_back(phase);
  }

  // The pattern in the chunk when its visit in `cycle` (from 0) begins.
  uint64_t PatternBefore(uint64_t chunk, int cycle) const {
    return PatternOfVisit(plan_.seed, chunk, plan_.readonly ? 0 : static_cast<uint64_t>(cycle));
  }

  void VerifyOnHost() {
    const Traffic traffic_before = mode_->traffic();
    const auto start = Clock::now();
    mode_->FlushToHost();
    CheckResult check{};
    for (uint64_t chunk = 0; chunk < plan_.chunks; ++chunk) {
      const uint64_t* const words = mode_->HostView(chunk);
      const uint64_t pattern = PatternBefore(chunk, plan_.cycles);
      for (uint64_t i = 0; i < plan_.words_per_chunk(); ++i) {
        const uint64_t expected = WordOfPattern(pattern, i);
        if (words[i] != expected && check.mismatches++ == 0) check = {1, chunk, i, expected, words[i]};
      }
      CheckTimeLimit();
    }
    if (check.mismatches != 0) ReportMismatch("host", "after the last cycle", check);
    result_.verify_host_seconds = SecondsSince(start);
    result_.verify_host_traffic.device_to_host_bytes =
        mode_->traffic().device_to_host_bytes - traffic_before.device_to_host_bytes;
  }

  // The program stops by itself: a process that is killed while the driver migrates its pages may never end.
  void CheckTimeLimit() const {
    if (SecondsSince(started_) < plan_.time_limit_seconds) return;
    throw std::runtime_error("mode " + result_.mode + " took longer than --time-limit " +
                             std::to_string(static_cast<int>(plan_.time_limit_seconds)) + " s and was given up");
  }

  const Plan plan_;
  Visitor* const visitor_;
  const std::unique_ptr<Mode> mode_;
  Clock::time_point started_;
  Result result_;
};

}  // namespace

double Result::total_seconds() const {
  double seconds = 0;
  for (const Phase& phase : phases) seconds += phase.seconds;
  return seconds;
}

Traffic Result::total_traffic() const {
  Traffic total;
  for (const Phase& phase : phases) {
    total.host_to_device_bytes += phase.traffic.host_to_device_bytes;
    total.device_to_host_bytes += phase.traffic.device_to_host_bytes;
  }
  return total;
}

Result RunExperiment(const std::string& mode_name, const Plan& plan, Visitor* visitor) {
  return Experiment(mode_name, plan, visitor).Run();
}

}  // namespace oversub
