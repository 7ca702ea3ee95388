// The sections of the report: each function fills its own part and reads only the run and, where it says so, parts that
// were filled before it.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "analyzer/findings/report_builder.h"

namespace uvmtrace::analyzer {

// Which numbers can be known at all. A count without its source is not 0, it is unknown.
struct Knowledge {
  bool fault_groups = false;   // CUPTI feeds GPU faults
  bool fault_entries = false;  // the driver's queue does
  bool batch_ends = true;      // the replays of recorded faults are there: how long each batch took
  bool cpu_faults = false;
  // Records of migrations, all of them or a sample.
  bool host_to_device = false;
  bool device_to_host = false;
  bool device_to_device = false;
  bool estimated = false;  // a sample, at least in one process
  bool thrashing = false;
  bool throttling = false;
  bool remote_map = false;
  bool read_duplication = false;
  bool fatal_faults = false;
  bool kernels = false;

  bool gpu_faults() const { return fault_groups || fault_entries; }
  bool gpu_waits() const { return gpu_faults() && batch_ends; }
  bool any_migration() const { return host_to_device || device_to_host || device_to_device; }
  // What left and came back can be told only from every record.
  bool refaults() const { return host_to_device && device_to_host && !estimated; }
};

Knowledge WhatIsKnown(const ProcessModel& process);
Knowledge WhatIsKnown(const Run& run);
bool QueueIsOn(const ProcessModel& process);  // the driver's queue feeds, or fed until it stopped
bool QueueFeedsMigrations(const ProcessModel& process);
bool CuptiFeeds(const ProcessModel& process, const std::string& counter);  // "cupti.htod_bytes", ...
// The driver's own counters, up to the end: those that stopped midway say nothing about the whole.
bool HasCounters(const ProcessModel& process);

// What one GPU did, over all processes of the run.
struct GpuSums {
  uint64_t batches = 0;
  uint64_t fault_groups = 0;
  uint64_t fault_records = 0;
  uint64_t fault_entries = 0;
  uint64_t coalesced_faults = 0;
  bool counters = false;
  uint64_t service_ns = 0;
  uint64_t serviced_bytes = 0;
  std::array<uint64_t, kAccessCount> accesses{};
  BatchStatistics queue;
};

// By uuid; by "ordinal N" for a device that no process described.
std::map<std::string, GpuSums> SumByGpu(const Run& run);
std::string GpuKey(const ProcessModel& process, int32_t ordinal);

// The driver's own counters, and what the sources of events delivered of the same processes.
struct ExactSums {
  bool known = false;          // at least one process has them
  bool all_processes = false;  // so does every process that faults or migrations were recorded of
  bool comparable = false;     // all migrations were wanted wherever they are
  CounterAmounts counters;
  uint64_t delivered_host_to_device_bytes = 0;
  uint64_t delivered_device_to_host_bytes = 0;
};
ExactSums SumExactCounters(const Run& run);
void AddCompletenessNotSeen(const Run& run, const Report& report, std::vector<std::string>* lines);

// Why there are no unified-memory events: the first reason that applies.
std::string WhyNoUnifiedMemoryEvents(const Run& run, const std::string& source);

MemoryKindStatistics SumOfKind(const Run& run, MemoryKind kind);
std::string MemoryKindName(MemoryKind kind);
// The code at an instruction that touched memory.
std::string SiteOfInstruction(const ProcessModel& process, uint64_t pc, Symbolizer* symbolizer);
std::string NameOfKernel(const ProcessModel& process, uint32_t id);
// The share of one of `parts` kernels that ran at the same time.
MemoryActivity PartOf(const MemoryActivity& whole, size_t part, size_t parts);
std::string CauseName(MigrationCause cause);
std::string FormatUuid(const std::string& uuid);

void AddCapture(const Run& run, Report* report);
void AddCoverage(const Run& run, Report* report);  // into the capture
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
void AddAccounts(const Run& run, Report* report);  // after the totals
// Rows by call site: sites, calls by line, kernel x memory, CPU code x memory, call paths, shared pages.
void AddSites(const Run& run, const Knowledge& known, const ReportOptions& options, Symbolizer* symbolizer,
              Report* report);
// Failed allocations, and who held what at that moment.
void AddOutOfMemory(const Run& run, Symbolizer* symbolizer, Report* report);
// What crossed the links: copies, migrations, and what only the links' counters show. After totals, migrations,
// devices.
void AddTraffic(const Run& run, const Knowledge& known, Report* report);
void AddPhases(const Run& run, const Knowledge& known, Report* report);
void AddCapacity(const Run& run, const Knowledge& known, Report* report);  // after the devices
void AddToolCost(const Run& run, Report* report);                          // after the bottom half
void AddBandwidth(const Run& run, Report* report);
void AddFaultDefinitions(const Run& run, const Knowledge& known, Report* report);
void AddCpuFaultSites(const Run& run, const Knowledge& known, const ReportOptions& options, Symbolizer* symbolizer,
                      Report* report);
void AddFatalFaults(const Run& run, Symbolizer* symbolizer, Report* report);
void AddBottomHalfTime(const Run& run, Report* report);
void AddHazards(const Run& run, const ReportOptions& options, Symbolizer* symbolizer, Report* report);
void AddLeftOut(const Run& run, std::vector<std::string>* lines);
void AddNotSeen(const Run& run, const Symbolizer& symbolizer, Report* report);

void AddEmptySection(const std::string& section, const std::string& reason, Report* report);

}  // namespace uvmtrace::analyzer
