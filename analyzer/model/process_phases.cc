// Phases: ranges that the program named, the profiler's switch, launches of a marker kernel, and where the program
// named nothing what the data itself shows.
#include <algorithm>

#include "analyzer/model/event_values.h"
#include "analyzer/model/process_model.h"

namespace uvmtrace::analyzer {
namespace {

// A found phase is worth a row from this share of the run on.
constexpr double kSmallestShare = 0.01;
// Warm-up: this share of the bytes in at most that share of the time.
constexpr double kWarmUpBytes = 0.8;
constexpr double kWarmUpTime = 0.3;
// A program that numbers its steps names as many; the rest is one phase.
constexpr size_t kMaximumNames = 256;
constexpr const char* kOtherRanges = "(other ranges)";

}  // namespace

void ProcessModel::AddPhase(const std::string& name, const std::string& origin, uint64_t start_ns, uint64_t end_ns) {
  if (end_ns <= start_ns || budget.Take(Spending::kRanges) == 0) return;
  const auto [known, is_new] = phase_names_.try_emplace(name, static_cast<uint32_t>(phases.size()));
  if (is_new) {
    phases.emplace_back();
    phases.back().name = name;
    phases.back().origin = origin;
    phases.back().first_ns = start_ns;
  }
  Phase& phase = phases[known->second];
  phase.first_ns = std::min(phase.first_ns, start_ns);
  phase.last_ns = std::max(phase.last_ns, end_ns);
  ++phase.count;
  const uint64_t kept_ns = timeline.filter.Overlap(start_ns, end_ns);
  phase.duration_ns += kept_ns;
  phase.spans.emplace_back(start_ns, end_ns);
  timeline.phases.Add(start_ns, end_ns, known->second);
}

void ProcessModel::AddNamedRanges() {
  const auto string = [this](uint32_t id) {
    const auto found = strings.find(id);
    return found == strings.end() ? std::string("?") : found->second;
  };
  for (const NamedRange& range : annotations_.Pair(last_ns)) {
    std::string name = string(range.name);
    if (range.domain != 0) name = string(range.domain) + "/" + name;
    if (phase_names_.size() >= kMaximumNames && phase_names_.count(name) == 0) name = kOtherRanges;
    AddPhase(name, "nvtx", range.start_ns, range.end_ns);
  }
}

void ProcessModel::AddProfilerSpans() {
  std::stable_sort(profiler_switches_.begin(), profiler_switches_.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  std::optional<uint64_t> since_ns;
  for (const auto& [time_ns, on] : profiler_switches_) {
    if (on) {
      if (!since_ns) since_ns = time_ns;
    } else if (since_ns) {
      AddPhase("profiler", "profiler", *since_ns, time_ns);
      since_ns.reset();
    }
  }
  if (since_ns) AddPhase("profiler", "profiler", *since_ns, last_ns);
}

void ProcessModel::FindPhases() {
  AddNamedRanges();
  if (!markers_ns_.empty()) {
    std::sort(markers_ns_.begin(), markers_ns_.end());
    for (size_t i = 0; i < markers_ns_.size(); ++i)
      AddPhase("marker", "marker", markers_ns_[i], i + 1 < markers_ns_.size() ? markers_ns_[i + 1] : last_ns);
  }
  const bool named = !phases.empty();
  AddProfilerSpans();
  if (named || !process || last_kernel_ns_ == 0) return;
  const uint64_t start_ns = process->started_ns;
  const uint64_t end_ns = std::max(last_ns, last_kernel_ns_);
  if (end_ns <= start_ns) return;
  const auto worth = [&](uint64_t from_ns, uint64_t to_ns) {
    return to_ns > from_ns &&
           static_cast<double>(to_ns - from_ns) >= kSmallestShare * static_cast<double>(end_ns - start_ns);
  };
  const uint64_t first_ns = std::max(start_ns, first_kernel_ns_);
  if (worth(start_ns, first_ns)) AddPhase("load", "found", start_ns, first_ns);
  // Warm-up ends where most of what moves while kernels run has moved.
  const std::vector<CounterAmounts>& buckets = counter_series.buckets();
  uint64_t steady_ns = first_ns;
  double whole = 0;
  const auto moved = [&](size_t bucket) {
    const uint64_t at_ns = counter_series.start_ns() + bucket * counter_series.width_ns();
    if (at_ns + counter_series.width_ns() <= first_ns || at_ns >= last_kernel_ns_) return 0.0;
    return static_cast<double>(buckets[bucket].host_to_device_bytes) +
           static_cast<double>(buckets[bucket].device_to_host_bytes);
  };
  for (size_t bucket = 0; bucket < buckets.size(); ++bucket) whole += moved(bucket);
  double sum = 0;
  for (size_t bucket = 0; bucket < buckets.size() && whole > 0; ++bucket) {
    sum += moved(bucket);
    if (sum < kWarmUpBytes * whole) continue;
    const uint64_t until_ns = counter_series.start_ns() + (bucket + 1) * counter_series.width_ns();
    if (until_ns > first_ns &&
        static_cast<double>(until_ns - first_ns) < kWarmUpTime * static_cast<double>(last_kernel_ns_ - first_ns)) {
      steady_ns = until_ns;
    }
    break;
  }
  if (worth(first_ns, steady_ns)) AddPhase("warm-up", "found", first_ns, steady_ns);
  if (worth(steady_ns, last_kernel_ns_)) AddPhase("steady", "found", steady_ns, last_kernel_ns_);
  if (worth(last_kernel_ns_, end_ns)) AddPhase("end", "found", last_kernel_ns_, end_ns);
}

TimeFilter ProcessModel::SpansOfPhase(const std::string& name) const {
  TimeFilter filter;
  filter.Keep(0, 0);  // nothing, if there is no such phase
  for (const Phase& phase : phases) {
    if (phase.name != name) continue;
    for (const auto& [start_ns, end_ns] : phase.spans) filter.Keep(start_ns, end_ns);
  }
  filter.Seal();
  return filter;
}

}  // namespace uvmtrace::analyzer
