// Names and keys for the call sites of a run: what joins the rows of different sections, and of different runs.
//
// A key is the kind of memory and the call path by function and file. It holds no line, no address and no number of the
// run, so it is the same tomorrow, and after an edit elsewhere in the file.
#pragma once

#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "analyzer/findings/call_site.h"
#include "analyzer/findings/report_builder.h"
#include "analyzer/findings/sections.h"

namespace uvmtrace::analyzer {

// What joins the rows of one site.
std::string SiteKey(MemoryKind kind, const CallSite& site, const std::string& variable);

class SiteNames {
 public:
  static constexpr const char* kUnattributed = "unattributed";
  static constexpr const char* kOthers = "others";
  static constexpr const char* kNotRecorded = "not_recorded";  // what only the driver's counters know
  // The most active ones get names; the rest is one.
  static constexpr size_t kMaximumNamed = 4096;

  struct Named {
    std::string key;
    MemoryKind kind = MemoryKind::kUnknown;
    std::string site;
    std::string name;  // of a __managed__ variable
    std::vector<std::string> stack;
  };

  SiteNames(const Run& run, Symbolizer* symbolizer);

  // kUnattributed for Account::kNoSite.
  const std::string& KeyOf(const ProcessModel& process, uint32_t site) const;
  const Named& NamedOf(const std::string& key) const { return by_key_.at(key); }
  const std::string& SiteOfKey(const std::string& key) const { return by_key_.at(key).site; }

 private:
  std::map<std::string, Named> by_key_;
  std::unordered_map<const ProcessModel*, std::vector<const std::string*>> keys_;  // by site
};

void AddCallSites(const Run& run, const Knowledge& known, const SiteNames& names, const ReportOptions& options,
                  Symbolizer* symbolizer, Report* report);

}  // namespace uvmtrace::analyzer
