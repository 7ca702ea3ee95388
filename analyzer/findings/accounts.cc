// For every quantity that can be counted twice: what the events add up to, what the driver counted, and which of both
// the totals have. A reader who trusts no profiler should be able to check this one here.
#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "analyzer/findings/estimate.h"
#include "analyzer/findings/sections.h"

namespace uvmtrace::analyzer {
namespace {

constexpr auto kCupti = static_cast<size_t>(EventSource::kCupti);
constexpr auto kQueue = static_cast<size_t>(EventSource::kDriverQueue);
constexpr auto kReconstructed = static_cast<size_t>(EventSource::kReconstructed);

// Rows of one quantity and source, added up over the processes.
class Accounts {
 public:
  struct Part {
    std::string quantity;
    std::string source;
    std::optional<uint64_t> captured;
    std::optional<uint64_t> exact;
    std::string total_from;
    std::string note;
  };

  void Add(Part part) {
    for (Part& known : parts_) {
      if (known.quantity != part.quantity || known.source != part.source) continue;
      if (part.captured) known.captured = known.captured.value_or(0) + *part.captured;
      // One process without the exact number leaves the sum unknown.
      known.exact =
          known.exact && part.exact ? std::optional<uint64_t>(*known.exact + *part.exact) : std::optional<uint64_t>();
      if (known.total_from != part.total_from && !part.total_from.empty()) {
        known.total_from = known.total_from.empty() ? part.total_from : "several";
      }
      return;
    }
    parts_.push_back(std::move(part));
  }

  void Write(Capture* capture) const {
    for (const Part& part : parts_) {
      AccountRow* row = capture->add_accounts();
      row->set_quantity(part.quantity);
      row->set_source(part.source);
      if (part.captured) row->set_captured(*part.captured);
      if (part.exact) row->set_exact(*part.exact);
      if (part.captured && part.exact && *part.exact > 0) {
        row->set_share(static_cast<double>(*part.captured) / static_cast<double>(*part.exact));
      }
      row->set_total_from(part.total_from);
      row->set_note(part.note);
    }
  }

 private:
  std::vector<Part> parts_;
};

std::string NameOf(BytesFrom from) {
  switch (from) {
    case BytesFrom::kCupti:
      return "cupti";
    case BytesFrom::kDriverQueue:
      return "driver_queue";
    case BytesFrom::kExactCounters:
      return "exact_counters";
    case BytesFrom::kReconstructed:
      return "reconstructed";
    default:
      return "";
  }
}

void AddBytes(const ProcessModel& process, Accounts* accounts) {
  const ProcessBytes bytes = BytesOfProcess(process);
  const bool counters = HasCounters(process);
  const auto add = [&](Direction index, const char* quantity, uint64_t counted, const char* counter) {
    const DirectionBytes& direction = bytes.of(index);
    if (!direction.total) return;
    const std::optional<uint64_t> exact = counters ? std::optional<uint64_t>(counted) : std::nullopt;
    const std::string from = NameOf(direction.from);
    if (!direction.recorded) {
      return accounts->Add({quantity, "", std::nullopt, exact, from, "no migration was recorded"});
    }
    const auto& by_source = process.migrated_by_source;
    const auto number = static_cast<size_t>(index);
    bool any = false;
    for (const auto& [source, name, feeds] :
         {std::tuple(kCupti, "cupti", CuptiFeeds(process, counter)),
          std::tuple(kQueue, "driver_queue", QueueFeedsMigrations(process)),
          std::tuple(kReconstructed, "reconstructed", process.reconstruction.has_value())}) {
      if (!feeds && by_source[source][number] == 0) continue;
      any = true;
      accounts->Add({quantity, name, by_source[source][number], exact, from,
                     !exact            ? "the driver's own counters are not known"
                     : bytes.estimated ? "recorded a part of the time, scaled up to the exact number"
                                       : ""});
    }
    if (!any) accounts->Add({quantity, "unknown", direction.captured, exact, from, "the source is not known"});
  };
  add(Direction::kHostToDevice, "host_to_device_bytes", process.counters.host_to_device_bytes, "cupti.htod_bytes");
  add(Direction::kDeviceToHost, "device_to_host_bytes", process.counters.device_to_host_bytes, "cupti.dtoh_bytes");
}

// Fault entries that were counted as lost: by the driver, whose queue was full, or by our own rings.
uint64_t LostFaultEntries(const ProcessModel& process) {
  uint64_t lost = 0;
  for (const auto& [key, count] : process.losses) {
    std::string reason = key.second;
    std::replace(reason.begin(), reason.end(), '_', ' ');
    const bool of_queue =
        key.first == "driver_queue" && reason.find("replay") == std::string::npos &&
        (reason.find("GPU fault") != std::string::npos || reason.find("gpu fault") != std::string::npos);
    if (of_queue || key.first == "gpu_faults") lost += count;
  }
  return lost;
}

void AddFaults(const ProcessModel& process, Accounts* accounts) {
  const Knowledge known = WhatIsKnown(process);
  const bool counters = HasCounters(process);
  if (known.fault_entries) {
    const uint64_t entries = process.totals.gpu_fault_entries;
    accounts->Add({"gpu_fault_entries", "driver_queue", entries, entries + LostFaultEntries(process), "driver_queue",
                   "exact: what was recorded and what was counted as lost"});
  }
  if (known.fault_groups) {
    accounts->Add({"gpu_fault_groups", "cupti", process.totals.gpu_fault_groups, std::nullopt, "cupti",
                   "CUPTI merges faults: there is no number of the driver's to compare with"});
  }
  if (counters) {
    accounts->Add({"gpu_faults", "", std::nullopt, process.counters.gpu_faults, "exact_counters",
                   "the driver counts them after merging duplicates; no event stands for one"});
  }
  if (!known.cpu_faults && !counters) return;
  const std::optional<uint64_t> exact = counters ? std::optional<uint64_t>(process.counters.cpu_faults) : std::nullopt;
  const std::string unchecked = exact ? "" : "the driver's own counters are not known";
  const auto& rows = process.cpu_fault_sources;
  const bool cupti = rows[kCupti] > 0 || CuptiFeeds(process, "cupti.cpu_page_faults");
  const bool queue = rows[kQueue] > 0 || QueueIsOn(process);
  if (queue) accounts->Add({"cpu_faults", "driver_queue", rows[kQueue], exact, "driver_queue", unchecked});
  if (cupti) accounts->Add({"cpu_faults", "cupti", rows[kCupti], exact, "cupti", unchecked});
  if (!queue && !cupti) {
    accounts->Add({"cpu_faults", "", std::nullopt, exact, "exact_counters", "no CPU fault was recorded"});
  }
}

}  // namespace

void AddAccounts(const Run& run, Report* report) {
  Accounts accounts;
  for (const auto& process : run) AddBytes(*process, &accounts);
  for (const auto& process : run) AddFaults(*process, &accounts);
  accounts.Write(report->mutable_capture());
}

}  // namespace uvmtrace::analyzer
