#include "analyzer/compare/stack_alignment.h"

#include <algorithm>
#include <set>

namespace uvmtrace::analyzer {
namespace {

// A run has at most some thousand sites, and most of them have a partner by key.
constexpr size_t kMaximumSites = 512;

// "f(int) (file.cc:12)" -> "f(int)"; "libfoo.so+0x12" -> "libfoo.so": an edit moves lines and addresses.
std::string FunctionOf(const std::string& frame) {
  if (const size_t place = frame.rfind(" ("); place != std::string::npos) return frame.substr(0, place);
  return frame.substr(0, frame.rfind("+0x"));
}

std::vector<std::string> FunctionsOf(const SiteRow& site) {
  std::vector<std::string> functions;
  for (const std::string& frame : site.stack()) functions.push_back(FunctionOf(frame));
  return functions;
}

double SharedPart(const std::vector<std::string>& a, const std::vector<std::string>& b) {
  const size_t shorter = std::min(a.size(), b.size());
  const size_t longer = std::max(a.size(), b.size());
  if (shorter == 0) return 0;
  size_t outer = 0;
  while (outer < shorter && a[a.size() - 1 - outer] == b[b.size() - 1 - outer]) ++outer;
  size_t inner = 0;
  while (inner < shorter - outer && a[inner] == b[inner]) ++inner;
  return static_cast<double>(outer + inner) / static_cast<double>(longer);
}

}  // namespace

std::map<std::string, std::string> AlignSites(const std::vector<SiteRow>& base, const std::vector<SiteRow>& changed) {
  struct Pair {
    double shared;
    size_t base;
    size_t changed;
  };
  std::vector<std::vector<std::string>> base_functions;
  for (const SiteRow& site : base) base_functions.push_back(FunctionsOf(site));
  std::vector<Pair> pairs;
  for (size_t c = 0; c < std::min(changed.size(), kMaximumSites); ++c) {
    const std::vector<std::string> functions = FunctionsOf(changed[c]);
    for (size_t b = 0; b < std::min(base.size(), kMaximumSites); ++b) {
      if (base[b].kind() != changed[c].kind()) continue;
      const double shared = SharedPart(base_functions[b], functions);
      if (shared >= 0.5) pairs.push_back({shared, b, c});
    }
  }
  std::stable_sort(pairs.begin(), pairs.end(), [](const Pair& a, const Pair& b) { return a.shared > b.shared; });
  std::map<std::string, std::string> aligned;
  std::set<size_t> taken;
  for (const Pair& pair : pairs) {
    if (taken.count(pair.base) != 0 || aligned.count(changed[pair.changed].key()) != 0) continue;
    taken.insert(pair.base);
    aligned[changed[pair.changed].key()] = base[pair.base].key();
  }
  return aligned;
}

}  // namespace uvmtrace::analyzer
