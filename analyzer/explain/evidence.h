// Look-ups over a Report: the figures that the headline, the findings and the verdict share.
//
// Everything in this folder reads the Report message alone. So each sentence can be tested with rows written by hand,
// and can never say what the tables do not.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "proto/report.pb.h"

namespace uvmtrace::analyzer {

// A speed that this run reached itself, and where it was seen.
struct MeasuredRate {
  double bytes_per_second = 0;
  std::string words;  // "by prefetch calls of this run", follows "52.7 GB/s "
};

class Evidence {
 public:
  explicit Evidence(const Report& report) : report_(report) {}

  const Report& report() const { return report_; }
  bool simulated() const { return report_.capture().simulated(); }

  // Time in which a GPU ran kernels or waited for faults. The run's duration where kernels were not recorded.
  uint64_t gpu_time_ns() const;
  bool kernels_known() const;
  std::string gpu_time_words() const;  // "82.6 ms in kernels", "544 ms of the run"
  uint64_t run_ns() const { return report_.capture().duration_ns(); }

  // Sites that are a line of the program: without the rows that sum up others, or what is not known.
  std::vector<std::reference_wrapper<const SiteRow>> lines() const;
  const SiteRow* Site(const std::string& key) const;
  const MemoryRow* Memory(const std::string& kind) const;
  // Calls of one operation ("copy", "prefetch", ...) on the memory of a site. Of copies, either end.
  std::vector<const CallSiteRow*> CallsOn(const std::string& key, const std::string& operation) const;
  // The code of the CPU that faulted most on a site's memory; nullptr: not known.
  const CpuFaultTargetRow* CpuToucher(const std::string& key) const;
  // The kernel that faulted most on it, as a short name; empty: not known.
  std::string KernelOn(const SiteRow& site) const;

  uint64_t MigratedBytes(const std::string& direction, const std::string& cause) const;  // empty: any
  uint64_t MigrationBusyNs(const std::string& direction, const std::string& cause) const;
  uint64_t TrafficBytes(const std::string& way, const std::string& direction) const;
  uint64_t TrafficBusyNs(const std::string& way, const std::string& direction) const;

  // How fast bulk copies cross the link: by prefetch calls, else by copies of pinned memory, else the link's own
  // capacity. Absent where the trace tells none of them: then no gain is computed from it.
  std::optional<MeasuredRate> BulkRate() const;
  std::optional<double> LinkCapacity() const;  // bytes a second, each way, of the fastest link

  // "3,000 fault entries" or "627 fault groups": what the trace counts by.
  std::string Faults(const SiteRow& site) const;
  std::string DeviceName(const std::string& uuid) const;  // "GPU 0"

 private:
  const Report& report_;
};

uint64_t FaultCount(const SiteRow& site);
// Share of part in whole; 0 of nothing.
double Share(uint64_t part, uint64_t whole);
std::string Join(const std::vector<std::string>& parts);  // "a, b and c"
std::string Capitalized(std::string sentence);
std::string Times(uint64_t count);  // "once", "12 times"

// "Make() (dir/a.cc:12)" as "a.cc:12 in Make()"; what has no line stays as it is.
std::string PlaceOf(const std::string& site);
// "a.cc:12" alone, else the whole.
std::string LineOf(const std::string& site);
// The place of a row, or the name of its variable.
std::string PlaceOf(const SiteRow& site);
std::string LineOf(const SiteRow& site);
// The line of a call; where no stack was recorded, the function and the memory.
std::string PlaceOf(const CallSiteRow& call);

}  // namespace uvmtrace::analyzer
