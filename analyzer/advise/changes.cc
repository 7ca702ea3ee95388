#include "analyzer/advise/changes.h"

#include <fmt/format.h>

#include <algorithm>

#include "analyzer/units.h"
#include "proto/apply_format.h"

namespace uvmtrace::analyzer {
namespace {

using Actions = std::vector<std::string>;

// Each inner list is a change of its own.
struct Rule {
  const char* finding;
  std::vector<Actions> changes;
  std::vector<Actions> if_only_read;  // in their place, if the GPU only reads the memory; empty: the same
};

const Actions kPrefetch = {"prefetch gpu"};
const Actions kSendBack = {"prefetch host"};
const Actions kReadMostly = {"advise read-mostly"};
bool IsCertain(const Actions& actions) {
  return actions.front() == "prefetch gpu" || actions.front() == "allocate apart";
}

const Actions kInPlace = {"advise preferred-host", "advise accessed-by"};

const std::vector<Rule>& Rules() {
  static const std::vector<Rule> kRules = {
      {"prefetch_before_launch", {kPrefetch}, {}},
      {"prefetch_incomplete", {kPrefetch}, {}},
      {"prefetch_late", {kPrefetch}, {}},
      {"managed_never_migrates", {kPrefetch}, {}},
      {"ping_pong", {kPrefetch, kSendBack}, {}},
      {"read_mostly_missing", {kPrefetch, kReadMostly}, {}},
      {"oversubscribed_streaming", {kInPlace}, {kReadMostly, kInPlace}},
      {"sparse_access", {kInPlace}, {}},
      {"advice_fights", {{"advise accessed-by"}}, {}},
      {"between_gpus", {}, {kReadMostly}},
      {"shared_page", {{"allocate apart"}}, {}},
  };
  return kRules;
}

// Why a finding is no change, by id.
const char* WhyNot(const std::string& finding) {
  static const std::map<std::string, const char*> kReasons = {
      {"pageable_copy", "the library does not know how long the program's own memory lives, so it does not pin it"},
      {"zero_copy_reuse", "a copy would have to be kept equal to memory that the program may write"},
      {"zero_copy_link_bound", "less can be read only by another program"},
      {"sent_back", "the program's own calls are never left out"},
      {"prefetch_redundant", "the program's own calls are never left out"},
      {"advise_in_loop", "the program's own calls are never left out"},
      {"allocate_in_loop", "memory that the program frees is not kept"},
      {"bh_starved", "only an administrator can give the driver's thread more of a processor"},
  };
  const auto found = kReasons.find(finding);
  return found == kReasons.end() ? nullptr : found->second;
}

const SiteRow* FindSite(const Report& report, const std::string& key) {
  for (const SiteRow& site : report.sites()) {
    if (site.key() == key) return &site;
  }
  return nullptr;
}

// The sites that a finding is about: its subject, or what its evidence names where the subject is a call.
std::vector<const SiteRow*> SitesOf(const Report& report, const FindingRow& finding) {
  std::vector<const SiteRow*> sites;
  const auto add = [&](const std::string& key) {
    const SiteRow* site = FindSite(report, key);
    if (site != nullptr && site->kind() == "managed" && std::find(sites.begin(), sites.end(), site) == sites.end()) {
      sites.push_back(site);
    }
  };
  add(finding.subject());
  if (sites.empty() || finding.id() == "shared_page") {
    for (const std::string& key : finding.evidence()) add(key);
  }
  return sites;
}

std::string GainOf(const FindingRow& finding) {
  if (!finding.has_gain_ns()) return finding.has_cost_ns() ? "not known, of " + FormatDuration(finding.cost_ns()) : "";
  std::string text = "about " + FormatDuration(finding.gain_ns());
  if (finding.has_gain_share()) text += fmt::format(" ({})", FormatPercent(finding.gain_share()));
  return text;
}

// A value is one line.
std::string OneLine(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c < 0x20; }, ' ');
  return text;
}

}  // namespace

Changes ChangesOf(const Report& report, const std::map<std::string, SitePaths>& paths) {
  Changes result;
  for (const FindingRow& finding : report.findings()) {
    const auto rule =
        std::find_if(Rules().begin(), Rules().end(), [&](const Rule& one) { return finding.id() == one.finding; });
    if (rule == Rules().end()) {
      if (const char* why = WhyNot(finding.id())) {
        result.left_out.push_back(fmt::format("{}, {}: {}", finding.title(), finding.place(), why));
      }
      continue;
    }
    for (const SiteRow* site : SitesOf(report, finding)) {
      const auto path = paths.find(site->key());
      if (path == paths.end() || path->second.empty()) {
        result.left_out.push_back(
            fmt::format("{}, {}: no call stack names this memory", finding.title(), finding.place()));
        continue;
      }
      const bool only_read = site->reads() > 0 && site->writes() + site->atomics() == 0;
      for (const Actions& actions : only_read && !rule->if_only_read.empty() ? rule->if_only_read : rule->changes) {
        const bool known = std::any_of(result.changes.begin(), result.changes.end(), [&](const Change& change) {
          return change.site == site->key() && change.actions == actions;
        });
        if (known) continue;
        if (result.changes.size() == kApplyChanges) {
          result.left_out.push_back(
              fmt::format("{}, {}: a file holds {} changes at most", finding.title(), finding.place(), kApplyChanges));
          break;
        }
        result.changes.push_back({finding.id(), site->key(), finding.place(), finding.sentence(), GainOf(finding),
                                  actions, IsCertain(actions)});
      }
    }
  }
  return result;
}

std::string ApplyFileText(const Report& report, const Changes& changes, const std::map<std::string, SitePaths>& paths) {
  std::string text =
      "version 1\n# Changes that the findings of a run suggest. Try them: uvmtrace run --apply THIS -- ...\n";
  std::string command;
  for (const std::string& word : report.capture().command_line()) command += " " + word;
  if (!command.empty()) text += "# The run:" + OneLine(command) + "\n";
  for (const Change& change : changes.changes) {
    const char* const mark = change.certain ? "" : "# ";
    const auto line = [&](const char* keyword, const std::string& value) {
      if (!value.empty()) text += fmt::format("{}  {:<7} {}\n", mark, keyword, OneLine(value));
    };
    text += change.certain ? "\n" : "\n# Only after it was tried, because it may cost as much as it saves:\n";
    text += fmt::format("{}change {}\n", mark, change.finding);
    line("place", change.place);
    line("reason", change.reason);
    line("gain", change.gain);
    line("site", change.site);
    const SitePaths& site = paths.at(change.site);
    for (const std::string& path : site.paths) line("path", path);
    for (const std::string& path : site.python) line("python", path);
    line("variable", site.variable);
    for (const std::string& action : change.actions) line("action", action);
  }
  if (changes.changes.empty()) text += "\n# No finding of this run is a change that can be applied.\n";
  for (const std::string& sentence : changes.left_out) text += "\n# Not applied: " + OneLine(sentence) + ".\n";
  return text;
}

}  // namespace uvmtrace::analyzer
