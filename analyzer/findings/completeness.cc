// Does the trace hold what the driver moved? The driver's own counters are exact; CUPTI's records pass through a queue
// that runs over without a count, the driver's event queue counts what it drops. Where both are known, what is missing
// is said in bytes, as a loss.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "analyzer/explain/capture_words.h"
#include "analyzer/findings/sections.h"
#include "analyzer/units.h"

namespace uvmtrace::analyzer {
namespace {

constexpr const char* kSource = "exact_counters";

const SourceStateDefinition* StateOf(const ProcessModel& process, const std::string& name) {
  const auto source = process.sources.find(name);
  return source == process.sources.end() ? nullptr : &source->second;
}

// The queue is read to its end before the last sample of the counters: of it, every byte that is missing is missing.
uint64_t Missing(uint64_t exact, uint64_t delivered, bool queue) {
  if (exact <= delivered) return 0;
  if (queue) return exact - delivered;
  if (exact - delivered <= kNegligibleBytes) return 0;
  return static_cast<double>(delivered) < kCompleteShare * static_cast<double>(exact) ? exact - delivered : 0;
}

// What was recorded in windows beside what was reconstructed.
void AddWindowCheck(const Run& run, Reconstruction* row) {
  uint64_t bytes = 0;
  uint64_t agreed = 0;
  uint64_t since_ns = ~uint64_t{0};
  std::array<reconstruct::Reconstruction::Copies, 2> copies;  // to the device, to the host
  for (const auto& process : run) {
    if (!process->reconstruction) continue;
    const reconstruct::Reconstruction& told = *process->reconstruction;
    bytes += told.window_bytes;
    agreed += told.window_agreed_bytes;
    const uint64_t started_ns = process->process ? process->process->started_ns : 0;
    if (told.window_since_ns > started_ns) since_ns = std::min(since_ns, told.window_since_ns - started_ns);
    const std::array<const reconstruct::Reconstruction::Copies*, 2> directions = {&told.to_device, &told.to_host};
    for (size_t i = 0; i < copies.size(); ++i) {
      copies[i].exact_bytes += directions[i]->exact_bytes;
      copies[i].window_bytes += directions[i]->window_bytes;
      copies[i].window_ns += directions[i]->window_ns;
    }
  }
  if (bytes == 0) return;
  row->set_window_bytes(bytes);
  row->set_window_agreed_bytes(agreed);
  if (agreed < bytes) row->set_window_since_ns(since_ns);
  for (size_t i = 0; i < copies.size(); ++i) {
    if (copies[i].window_bytes == 0) continue;
    WindowCopies* of = row->add_window_copies();
    of->set_direction(i == 0 ? "host_to_device" : "device_to_host");
    of->set_bytes(copies[i].window_bytes);
    of->set_duration_ns(copies[i].window_ns);
    of->set_estimated_duration_ns(
        static_cast<uint64_t>(static_cast<double>(copies[i].window_ns) / static_cast<double>(copies[i].window_bytes) *
                              static_cast<double>(copies[i].exact_bytes)));
  }
}

// What the processes whose migrations are reconstructed are told to have moved. False if there are none.
bool AddReconstruction(const Run& run, Capture* capture) {
  uint64_t exact = 0;
  uint64_t unexplained = 0;
  uint64_t since_ns = 0;
  bool any = false;
  for (const auto& process : run) {
    if (!process->reconstruction) continue;
    any = true;
    const reconstruct::Reconstruction& told = *process->reconstruction;
    exact += told.exact_bytes;
    unexplained += told.unexplained_bytes;
    const uint64_t started_ns = process->process ? process->process->started_ns : 0;
    if (told.since_ns == 0) continue;
    const uint64_t after_ns = told.since_ns > started_ns ? told.since_ns - started_ns : 0;
    since_ns = since_ns == 0 ? after_ns : std::min(since_ns, after_ns);
  }
  if (!any) return false;
  Reconstruction* row = capture->mutable_reconstruction();
  row->set_exact_bytes(exact);
  row->set_unexplained_bytes(unexplained);
  row->set_explained_share(unexplained == 0       ? 1
                           : unexplained >= exact ? 0
                                                  : 1 - static_cast<double>(unexplained) / static_cast<double>(exact));
  AddWindowCheck(run, row);
  if (unexplained == 0) return true;
  row->set_since_ns(since_ns);
  LostRow* lost = capture->add_lost();
  lost->set_source("reconstruction");
  lost->set_reason(
      "bytes that the driver counted otherwise than the faults explain: moved by other programs on the GPU, by access "
      "counters, or by a rule that is not known here");
  lost->set_count(unexplained);
  return true;
}

}  // namespace

bool HasCounters(const ProcessModel& process) {
  const SourceStateDefinition* state = StateOf(process, kSource);
  return process.counters.samples > 0 && (state == nullptr || state->state == State::kActive);
}

ExactSums SumExactCounters(const Run& run) {
  ExactSums sums;
  sums.all_processes = true;
  sums.comparable = true;
  for (const auto& process : run) {
    const Knowledge known = WhatIsKnown(*process);
    if (!HasCounters(*process)) {
      sums.all_processes &= !known.any_migration() && !known.gpu_faults();
      continue;
    }
    const DriverCounters& counters = process->counters;
    sums.known = true;
    sums.counters.Add(counters);
    sums.delivered_host_to_device_bytes += process->totals.host_to_device_bytes;
    sums.delivered_device_to_host_bytes += process->totals.device_to_host_bytes;
    // Where migrations were not recorded, or only a part of the time, nothing was to be delivered.
    const bool moved = counters.host_to_device_bytes + counters.device_to_host_bytes > 0;
    sums.comparable &= !moved || (known.host_to_device && known.device_to_host && !known.estimated);
  }
  return sums;
}

void AddCompleteness(const Run& run, Report* report) {
  const ExactSums sums = SumExactCounters(run);
  if (!sums.known) return;
  Capture* capture = report->mutable_capture();
  const CounterAmounts& counters = sums.counters;
  capture->set_exact_host_to_device_bytes(counters.host_to_device_bytes);
  capture->set_exact_device_to_host_bytes(counters.device_to_host_bytes);
  capture->set_exact_cpu_faults(counters.cpu_faults);
  capture->set_exact_gpu_faults(counters.gpu_faults);
  const uint64_t exact = counters.host_to_device_bytes + counters.device_to_host_bytes;
  if (AddReconstruction(run, capture) || !sums.comparable || exact == 0) return;
  capture->set_delivered_host_to_device_bytes(sums.delivered_host_to_device_bytes);
  capture->set_delivered_device_to_host_bytes(sums.delivered_device_to_host_bytes);
  capture->set_delivered_share(
      static_cast<double>(sums.delivered_host_to_device_bytes + sums.delivered_device_to_host_bytes) /
      static_cast<double>(exact));
  const bool queue = std::any_of(run.begin(), run.end(), [](const auto& one) { return QueueFeedsMigrations(*one); });
  const uint64_t missing = Missing(counters.host_to_device_bytes, sums.delivered_host_to_device_bytes, queue) +
                           Missing(counters.device_to_host_bytes, sums.delivered_device_to_host_bytes, queue);
  if (missing == 0) return;
  const bool ours = LostOnTheWayToTheFile(*capture);
  LostRow* row = capture->add_lost();
  row->set_source(queue ? "driver_queue" : "cupti");
  row->set_reason(queue  ? "bytes that moved and that no record in the trace tells: events that the driver or the "
                           "recorder dropped, counted above"
                  : ours ? "bytes that moved and that no record in the trace tells: CUPTI did not deliver them, or "
                           "they are among the other losses"
                         : "bytes that moved and that CUPTI did not deliver");
  row->set_count(missing);
}

void AddCompletenessNotSeen(const Run& run, const Report& report, std::vector<std::string>* lines) {
  const std::string unchecked = "Bytes and faults could not be checked against the driver's own counters: ";
  for (const auto& process : run) {
    const SourceStateDefinition* state = StateOf(*process, kSource);
    if (HasCounters(*process)) continue;
    const std::string reason = state == nullptr || state->reason.empty() ? "no reason was recorded" : state->reason;
    if (state != nullptr && state->state == State::kStopped) {
      lines->push_back(unchecked + "they stopped before the end: " + reason);
    } else if (state != nullptr && state->state == State::kUnavailable) {
      lines->push_back(unchecked + reason);
    } else if (state != nullptr && state->state == State::kDisabled) {
      lines->push_back(fmt::format("{} was off: {}", kSource, reason));
    } else if (WhatIsKnown(*process).any_migration() && SumOfKind(run, MemoryKind::kManaged).allocations > 0) {
      lines->push_back(unchecked + "the trace has none");
    }
  }
  const SourceRow* held_up = SourceOf(report.capture(), "cupti.flush", "active");
  const bool complete = report.capture().has_delivered_share() && MissingBytesOf(report.capture()) == nullptr;
  if (held_up != nullptr && !complete) lines->push_back("CUPTI was not emptied in time: " + held_up->reason());
}

}  // namespace uvmtrace::analyzer
