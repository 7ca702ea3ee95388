#include "analyzer/findings/site_names.h"

#include <fmt/format.h>

#include <algorithm>

#include "analyzer/findings/call_site.h"
#include "analyzer/findings/sections.h"

namespace uvmtrace::analyzer {
namespace {

// "f(int) (path/file.cc:12)" -> "f(int) (file.cc": lines move with every edit, folders with every machine.
std::string WithoutLine(const std::string& frame) {
  const size_t open = frame.rfind(" (");
  // libfoo.so+0x12: without a name the address is all that tells one function from another.
  if (open == std::string::npos) return frame;
  const size_t slash = frame.rfind('/');
  const size_t begin = slash != std::string::npos && slash > open ? slash + 1 : open + 2;
  std::string file = frame.substr(begin);
  const size_t colon = file.rfind(':');
  if (colon != std::string::npos) file.resize(colon);
  return frame.substr(0, open) + " (" + file;
}

// FNV-1a.
uint32_t HashOf(const std::vector<std::string>& stack) {
  uint32_t hash = 2166136261u;
  for (const std::string& frame : stack) {
    for (const char c : WithoutLine(frame)) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619u;
    hash = (hash ^ 0xff) * 16777619u;
  }
  return hash;
}

}  // namespace

std::string SiteKey(MemoryKind kind, const CallSite& site, const std::string& variable) {
  if (!variable.empty()) return fmt::format("{}:variable:{}", MemoryKindName(kind), variable);
  if (site.stack.empty()) return MemoryKindName(kind) + ":unknown";
  std::string place = WithoutLine(site.site);
  const size_t open = place.rfind(" (");
  std::string function = place.substr(0, std::min(open, place.find('(')));
  while (!function.empty() && function.back() == ' ') function.pop_back();
  const std::string file = open == std::string::npos ? "" : place.substr(open + 2);
  return fmt::format("{}:{}@{}:{:08x}", MemoryKindName(kind), function, file, HashOf(site.stack));
}

SiteNames::SiteNames(const Run& run, Symbolizer* symbolizer) {
  struct Candidate {
    const ProcessModel* process;
    uint32_t site;
    uint64_t importance;
    uint64_t bytes;
  };
  std::vector<Candidate> candidates;
  const std::string* unattributed = nullptr;
  const std::string* others = nullptr;
  for (const auto& [key, text, into] : {std::tuple(kUnattributed, "(no known allocation)", &unattributed),
                                        std::tuple(kOthers, "(other call sites)", &others)}) {
    Named named;
    named.key = key;
    named.site = text;
    *into = &by_key_.emplace(key, named).first->first;
  }
  for (const auto& process : run) {
    const SiteMemories& memories = process->memory.table().sites();
    keys_[process.get()].assign(memories.size() + 1, others);
    keys_[process.get()].back() = unattributed;
    for (uint32_t site = 0; site < memories.size(); ++site) {
      const MemoryActivity& activity = process->site_activity[site];
      candidates.push_back({process.get(), site,
                            activity.moved_bytes() +
                                4096 * (activity.gpu_fault_entries + activity.gpu_fault_records + activity.cpu_faults),
                            memories[site].total_bytes});
    }
  }
  std::stable_sort(candidates.begin(), candidates.end(), [](const Candidate& a, const Candidate& b) {
    return std::pair(a.importance, a.bytes) > std::pair(b.importance, b.bytes);
  });
  if (candidates.size() > kMaximumNamed) candidates.resize(kMaximumNamed);
  for (const Candidate& one : candidates) {
    const SiteMemory& memory = one.process->memory.table().sites()[one.site];
    CallSite site = ResolveCallSite(*one.process, memory.stack, symbolizer);
    Named named;
    named.kind = memory.kind;
    named.name = NameOfVariable(*one.process, memory.stack);
    named.key = SiteKey(memory.kind, site, named.name);
    named.site = site.site.empty() ? "(no call stack)" : site.site;
    named.stack = std::move(site.stack);
    const auto known = by_key_.emplace(named.key, std::move(named)).first;
    keys_[one.process][one.site] = &known->first;
  }
}

const std::string& SiteNames::KeyOf(const ProcessModel& process, uint32_t site) const {
  const std::vector<const std::string*>& keys = keys_.at(&process);
  return *keys[site == Account::kNoSite || site + 1 >= keys.size() ? keys.size() - 1 : site];
}

}  // namespace uvmtrace::analyzer
