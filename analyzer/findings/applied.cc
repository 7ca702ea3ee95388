#include "analyzer/findings/applied.h"

#include <fmt/format.h>

#include <map>
#include <sstream>

#include "analyzer/units.h"
#include "proto/apply_format.h"

namespace uvmtrace::analyzer {
namespace {

std::string Of(uint64_t count, const char* one, const char* more) {
  return fmt::format("{} {}", FormatCount(count), count == 1 ? one : more);
}

}  // namespace

bool IsAppliedChange(const std::string& source) { return source.rfind(std::string(kApplySource) + ".", 0) == 0; }

std::string AppliedSentence(const std::string& reason) {
  std::map<std::string, uint64_t> counts;
  std::istringstream words(reason);
  for (std::string word; words >> word;) {
    const size_t equals = word.find('=');
    if (equals == std::string::npos || word.find_first_not_of("0123456789", equals + 1) != std::string::npos ||
        equals + 1 == word.size() || word.size() - equals > 20) {
      return reason;
    }
    counts[word.substr(0, equals)] = std::stoull(word.substr(equals + 1));
  }
  for (const char* name : kApplyCounts) {
    if (counts.count(name) == 0) return reason;
  }
  const std::string line = fmt::format("the change of line {}", counts["line"]);
  if (counts["allocations"] == 0) {
    return line + " matched nothing: no allocation of this run has one of its call paths";
  }
  std::string text = fmt::format("{}: {}, {} for {}", line, Of(counts["allocations"], "allocation", "allocations"),
                                 Of(counts["calls"], "call", "calls"), FormatBytes(counts["bytes"]));
  if (counts["suppressed"] > 0) {
    text += fmt::format("; {} left out, because the memory was there",
                        Of(counts["suppressed"], "further call was", "further calls were"));
  }
  if (counts["too_large"] > 0) {
    text += fmt::format("; {} skipped, because there was no room on the GPU",
                        Of(counts["too_large"], "allocation was", "allocations were"));
  }
  if (counts["failed"] > 0) {
    text += fmt::format("; the driver refused {} (the last with error {})", Of(counts["failed"], "call", "calls"),
                        counts["result"]);
  }
  return text;
}

}  // namespace uvmtrace::analyzer
