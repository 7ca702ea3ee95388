#include "examples/oversub/experiment.h"

#include <algorithm>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <stdexcept>

#include "examples/common/phase.h"
#include "examples/common/program.h"
#include "examples/oversub/host_work.h"

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
      : plan_(plan), visitor_(visitor), mode_(MakeMode(mode_name, plan, visitor->stream())), pattern_(plan.chunks) {
    for (uint64_t chunk = 0; chunk < plan.chunks; ++chunk) pattern_[chunk] = PatternOfVisit(plan.seed, chunk, 0);
    visits_.resize(plan.chunks);
    result_.mode = mode_name;
  }

  Result Run() {
    Allocate();
    if (!plan_.initialise_in_prefill) Initialise();
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
    const examples::PhaseRange range(result_.mode + ": allocation");
    const auto start = Clock::now();
    mode_->Allocate();
    result_.pinning_seconds = mode_->pinning_seconds();
    result_.allocation_seconds = SecondsSince(start) - result_.pinning_seconds;
  }

  void Initialise() {
    const examples::PhaseRange range(result_.mode + ": initialisation by the host");
    const auto start = Clock::now();
    for (uint64_t chunk = 0; chunk < plan_.chunks; ++chunk) InitialiseChunk(chunk);
    result_.initialisation_seconds = SecondsSince(start);
  }

  void InitialiseChunk(uint64_t chunk) {
    FillChunk(mode_->HostView(chunk), plan_.words_per_chunk(), pattern_[chunk], plan_.optimised_host);
  }

  // Chunks [first, last) of one cycle, as one timed phase.
  void VisitChunks(const std::string& name, uint64_t first, uint64_t last, int cycle) {
    const examples::PhaseRange range(result_.mode + ": " + name);
    const Traffic before = mode_->traffic();
    stopwatch_.Start();
    for (uint64_t chunk = first; chunk < last; ++chunk) {
      if (plan_.initialise_in_prefill && cycle == 0) InitialiseChunk(chunk);
      uint64_t* const words = mode_->BringIn(chunk);
      const uint64_t old_pattern = pattern_[chunk];
      visitor_->Enqueue(words, plan_.words_per_chunk(), chunk, old_pattern, NextPattern(chunk), plan_.readonly,
                        plan_.pattern);
      const uint64_t next = (chunk + 1) % plan_.chunks;
      const bool initialised = !plan_.initialise_in_prefill || cycle > 0;
      if (next != chunk && initialised && (next != 0 || cycle + 1 < plan_.cycles)) mode_->LookAhead(next);
      Check(cudaStreamSynchronize(visitor_->stream()), "visiting chunk " + std::to_string(chunk));
      if (plan_.pattern == Pattern::kPingPong) VisitByHost(chunk);
      CheckTimeLimit();
    }
    Phase phase{name, stopwatch_.Stop(), mode_->traffic()};
    phase.traffic.host_to_device_bytes -= before.host_to_device_bytes;
    phase.traffic.device_to_host_bytes -= before.device_to_host_bytes;
    phase.traffic.in_place_bytes -= before.in_place_bytes;
    result_.phases.push_back(phase);
  }

  // What the chunk holds after its next visit.
  uint64_t NextPattern(uint64_t chunk) {
    if (!plan_.readonly) pattern_[chunk] = PatternOfVisit(plan_.seed, chunk, ++visits_[chunk]);
    return pattern_[chunk];
  }

  void VisitByHost(uint64_t chunk) {
    mode_->TakeBack(chunk);
    CheckResult check{};
    const uint64_t old_pattern = pattern_[chunk];
    CheckChunk(mode_->HostView(chunk), plan_.words_per_chunk(), chunk, old_pattern, NextPattern(chunk), plan_.readonly,
               plan_.optimised_host, &check);
    if (check.mismatches != 0) ReportMismatch("host", "between two visits of the GPU", check);
  }

  void VerifyOnHost() {
    const examples::PhaseRange range(result_.mode + ": reading it all on the host");
    const Traffic traffic_before = mode_->traffic();
    const auto start = Clock::now();
    mode_->FlushToHost();
    CheckResult check{};
    for (uint64_t chunk = 0; chunk < plan_.chunks; ++chunk) {
      CheckChunk(mode_->HostView(chunk), plan_.words_per_chunk(), chunk, pattern_[chunk], pattern_[chunk],
                 /*readonly=*/true, plan_.optimised_host, &check);
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
  std::vector<uint64_t> pattern_;  // what each chunk holds
  std::vector<uint64_t> visits_;   // that have changed it
  examples::Stopwatch stopwatch_{visitor_->stream()};
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
    total.in_place_bytes += phase.traffic.in_place_bytes;
  }
  return total;
}

Result RunExperiment(const std::string& mode_name, const Plan& plan, Visitor* visitor) {
  return Experiment(mode_name, plan, visitor).Run();
}

}  // namespace oversub
