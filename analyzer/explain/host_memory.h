// What is known of pinned memory that kernels read in place: shared by the rules, the headline and the verdict.
#pragma once

#include <vector>

#include "analyzer/explain/evidence.h"

namespace uvmtrace::analyzer {

// Bytes that the link's counters show and that no copy and no migration explains.
struct InPlace {
  uint64_t bytes = 0;
  uint64_t busy_ns = 0;           // 0: not known
  uint64_t memory_bytes = 0;      // of the memory that it can have come from
  const SiteRow* site = nullptr;  // the largest of that
};

InPlace InPlaceOf(const Evidence& evidence);
// Pinned and registered memory that no recorded copy used, the largest first.
std::vector<const SiteRow*> NotCopied(const Evidence& evidence);
// Whether the memory of the recorded copies is known; then a site without any has none.
bool CopiesAreKnown(const Evidence& evidence);
bool LinkWasMeasured(const Evidence& evidence);
double FullShareOfLink(const Evidence& evidence);  // of the busiest link

}  // namespace uvmtrace::analyzer
