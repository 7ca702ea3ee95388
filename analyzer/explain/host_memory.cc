#include "analyzer/explain/host_memory.h"

#include <algorithm>

namespace uvmtrace::analyzer {

std::vector<const SiteRow*> NotCopied(const Evidence& evidence) {
  std::vector<const SiteRow*> sites;
  for (const SiteRow& site : evidence.lines()) {
    if (site.kind() != "pinned" && site.kind() != "registered") continue;
    if (site.peak_bytes() > 0 && evidence.CallsOn(site.key(), "copy").empty()) sites.push_back(&site);
  }
  std::stable_sort(sites.begin(), sites.end(),
                   [](const SiteRow* a, const SiteRow* b) { return a->peak_bytes() > b->peak_bytes(); });
  return sites;
}

bool CopiesAreKnown(const Evidence& evidence) {
  const Report& report = evidence.report();
  const bool any_copy = std::any_of(report.calls().begin(), report.calls().end(),
                                    [](const CallRow& row) { return row.name().find("emcpy") != std::string::npos; });
  bool rows = false;
  for (const CallSiteRow& row : report.call_sites()) {
    if (row.operation() != "copy") continue;
    rows = true;
    if (!row.has_other_end()) return false;
  }
  return rows || !any_copy;
}

bool LinkWasMeasured(const Evidence& evidence) {
  const auto& links = evidence.report().links();
  return std::any_of(links.begin(), links.end(), [](const LinkRow& row) { return row.has_received_bytes(); });
}

double FullShareOfLink(const Evidence& evidence) {
  double most = 0;
  for (const LinkRow& row : evidence.report().links()) most = std::max(most, row.full_share());
  return most;
}

InPlace InPlaceOf(const Evidence& evidence) {
  InPlace in_place;
  in_place.bytes = evidence.TrafficBytes("in_place", "");
  if (in_place.bytes == 0) return in_place;
  in_place.busy_ns = evidence.TrafficBusyNs("in_place", "");
  std::vector<const SiteRow*> sites = NotCopied(evidence);
  if (sites.empty()) {
    // All of it is copied as well. Remote-mapped managed memory is read in place too.
    for (const SiteRow& site : evidence.lines()) {
      if (site.kind() == "pinned" || site.kind() == "registered" || site.remote_mapped_bytes() > 0) {
        sites.push_back(&site);
      }
    }
    std::stable_sort(sites.begin(), sites.end(),
                     [](const SiteRow* a, const SiteRow* b) { return a->peak_bytes() > b->peak_bytes(); });
  }
  for (const SiteRow* site : sites) in_place.memory_bytes += site->peak_bytes();
  if (!sites.empty()) in_place.site = sites.front();
  return in_place;
}

}  // namespace uvmtrace::analyzer
