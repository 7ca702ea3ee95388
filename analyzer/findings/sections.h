// The sections of the report: each function fills its own part and reads only the run and, where it says so, parts that
// were filled before it.
#pragma once

#include <cstdint>
#include <map>
#include <string>

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
void AddBottomHalf(const Run& run, const Knowledge& known, Report* report);  // after devices
void AddAllocations(const Run& run, const Knowledge& known, const ReportOptions& options, Symbolizer* symbolizer,
                    Report* report);
void AddKernels(const Run& run, const Knowledge& known, const ReportOptions& options, Report* report);
void AddNotSeen(const Run& run, const Symbolizer& symbolizer, Report* report);
void AddVerdict(Report* report);  // after everything else

void AddEmptySection(const std::string& section, const std::string& reason, Report* report);

}  // namespace uvmtrace::analyzer
