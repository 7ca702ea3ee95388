// What to change: rules that turn the rows of a Report into findings.
//
// A rule looks at the rows and adds a FindingRow for each place where its mistake is seen. To add one: write its
// function in one of the *_rules.cc files, name it here, give it a row in the table of findings.cc, and a test with
// rows that trigger it and rows that just do not.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "analyzer/explain/evidence.h"

namespace uvmtrace::analyzer {

using Findings = std::vector<FindingRow>;
using FindingFunction = void (*)(const Evidence& evidence, Findings* findings);

struct FindingRule {
  const char* id;
  FindingFunction find;
};

const std::vector<FindingRule>& FindingRules();

// Adds the findings of all rules to the report: errors first, then by what the change would save, or what is at stake.
void AddFindings(Report* report);

// What a cost is a share of.
enum class CostBase {
  kGpuTime,  // kernels and waits for faults
  kRun,      // of the program's threads: the run's duration
};

// What rules share: each sets a part of a row.
FindingRow MakeFinding(const std::string& title, const std::string& subject, const std::string& place);
void SetCost(const Evidence& evidence, CostBase base, uint64_t cost_ns, FindingRow* row);
// After SetCost. A gain above the cost is cut to it.
void SetGain(const Evidence& evidence, uint64_t gain_ns, const std::string& assumption, FindingRow* row);

// Share of a site in the time that GPUs waited: as recorded, else by its share of the faults.
uint64_t WaitedNs(const Evidence& evidence, const SiteRow& site);
// Time of a bulk copy of `bytes` at the speed of this run; 0 with `known` false where the trace has no such speed.
uint64_t BulkCopyNs(const Evidence& evidence, uint64_t bytes, bool* known);
bool IsSparse(const SiteRow& site);
// "16 MiB" for one allocation of the site, "1 to 7 MiB each"; what an argument "bytes" should be.
std::string BytesOfOne(const SiteRow& site);

// paging_rules.cc
void PrefetchBeforeLaunch(const Evidence& evidence, Findings* findings);
void PrefetchAllOfIt(const Evidence& evidence, Findings* findings);
void PrefetchEarlier(const Evidence& evidence, Findings* findings);
void PingPong(const Evidence& evidence, Findings* findings);
void DoNotSendBack(const Evidence& evidence, Findings* findings);
void OversubscribedStreaming(const Evidence& evidence, Findings* findings);
void SparseAccess(const Evidence& evidence, Findings* findings);
void ManagedNeverMigrates(const Evidence& evidence, Findings* findings);
void ManagedUnused(const Evidence& evidence, Findings* findings);

// placement_rules.cc
void SharedPage(const Evidence& evidence, Findings* findings);
void AdviceFights(const Evidence& evidence, Findings* findings);
void ReadMostlyWritten(const Evidence& evidence, Findings* findings);
void BetweenGpus(const Evidence& evidence, Findings* findings);

// host_memory_rules.cc
void ZeroCopyReuse(const Evidence& evidence, Findings* findings);
void ZeroCopyLinkBound(const Evidence& evidence, Findings* findings);
void ZeroCopyNotMeasured(const Evidence& evidence, Findings* findings);
void PageableCopy(const Evidence& evidence, Findings* findings);
void SmallCopies(const Evidence& evidence, Findings* findings);
void PinnedOversized(const Evidence& evidence, Findings* findings);
void LeakedMemory(const Evidence& evidence, Findings* findings);

// call_rules.cc
void PrefetchRedundant(const Evidence& evidence, Findings* findings);
void AllocateInLoop(const Evidence& evidence, Findings* findings);
void AdviseInLoop(const Evidence& evidence, Findings* findings);
void HazardFindings(const Evidence& evidence, Findings* findings);

// driver_rules.cc
void OutOfMemory(const Evidence& evidence, Findings* findings);
void FatalFaults(const Evidence& evidence, Findings* findings);
void BottomHalfStarved(const Evidence& evidence, Findings* findings);
void LostEvents(const Evidence& evidence, Findings* findings);

}  // namespace uvmtrace::analyzer
