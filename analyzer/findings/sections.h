// The sections of the report: each function fills its own part and reads only the run and, where it says so, parts that
// were filled before it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "analyzer/findings/report_builder.h"

namespace uvmtrace::analyzer {

// Which numbers can be known at all. A count without its source is not 0, it is unknown.
struct Knowledge {
  bool gpu_faults = false;
  bool cpu_faults = false;
  bool host_to_device = false;
  bool device_to_host = false;
  bool device_to_device = false;
  bool thrashing = false;
  bool throttling = false;
  bool remote_map = false;
  bool kernels = false;

  bool any_migration() const { return host_to_device || device_to_host || device_to_device; }
};

Knowledge WhatIsKnown(const ProcessModel& process);
Knowledge WhatIsKnown(const Run& run);

// What one GPU did, over all processes of the run.
struct GpuSums {
  uint64_t batches = 0;
  uint64_t fault_groups = 0;
  uint64_t service_ns = 0;
  uint64_t serviced_bytes = 0;
};

// By uuid; by "ordinal N" for a device that no process described.
std::map<std::string, GpuSums> SumByGpu(const Run& run);

// The driver's own counters, and what CUPTI delivered of the same processes.
struct ExactSums {
  bool known = false;          // at least one process has them
  bool all_processes = false;  // so does every process that CUPTI watched
  bool comparable = false;     // CUPTI was on wherever they are
  uint64_t host_to_device_bytes = 0;
  uint64_t device_to_host_bytes = 0;
  uint64_t cpu_faults = 0;
  uint64_t gpu_faults = 0;
  uint64_t delivered_host_to_device_bytes = 0;
  uint64_t delivered_device_to_host_bytes = 0;
};
ExactSums SumExactCounters(const Run& run);
// Whether the row counts bytes that CUPTI did not deliver; other rows count events.
bool IsMissingBytes(const LostRow& row);
std::string CompletenessSentence(const Report& report);
void AddCompletenessNotSeen(const Run& run, const Report& report, std::vector<std::string>* lines);

// Why there are no unified-memory events: the first reason that applies.
std::string WhyNoUnifiedMemoryEvents(const Run& run, const std::string& source);

MemoryKindStatistics SumOfKind(const Run& run, MemoryKind kind);
std::string MemoryKindName(MemoryKind kind);
std::string CauseName(MigrationCause cause);
std::string FormatUuid(const std::string& uuid);

void AddCapture(const Run& run, Report* report);
void AddDevices(const Run& run, Report* report);
void AddProcesses(const Run& run, Report* report);
void AddMemory(const Run& run, Report* report);
void AddCalls(const Run& run, Report* report);
void AddMovement(const Run& run, const Knowledge& known, Report* report);    // totals, migrations, oversubscription
void AddCompleteness(const Run& run, Report* report);                        // after the capture
void AddBottomHalf(const Run& run, const Knowledge& known, Report* report);  // after devices
void AddAllocations(const Run& run, const Knowledge& known, const ReportOptions& options, Symbolizer* symbolizer,
                    Report* report);
void AddKernels(const Run& run, const Knowledge& known, const ReportOptions& options, Report* report);
void AddNotSeen(const Run& run, const Symbolizer& symbolizer, Report* report);
void AddVerdict(Report* report);  // after everything else

void AddEmptySection(const std::string& section, const std::string& reason, Report* report);

}  // namespace uvmtrace::analyzer
