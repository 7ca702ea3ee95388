// The list of modes. The first four are the columns of the blog post; the others fill its "Advise [TODO]".
#include <algorithm>
#include <iterator>

#include "examples/common/program.h"
#include "examples/oversub/mode.h"

namespace oversub {
namespace {

struct Entry {
  const char* name;
  bool managed;
  HostKind host;  // of a mode that swaps by hand
  Fetch fetch;    // of a managed mode
  Advice advice;
};

constexpr Entry Manual(const char* name, HostKind host) { return {name, false, host, Fetch::kFaults, Advice::kNone}; }
constexpr Entry Managed(const char* name, Fetch fetch, Advice advice) {
  return {name, true, HostKind::kPageable, fetch, advice};
}

constexpr Entry kModes[] = {
    Manual("manual", HostKind::kPageable),
    Manual("pinned", HostKind::kPinned),
    Managed("uvm", Fetch::kFaults, Advice::kNone),
    Managed("prefetch", Fetch::kPrefetch, Advice::kNone),
    Manual("pinned-ahead", HostKind::kPinnedAhead),
    Managed("prefetch-ahead", Fetch::kPrefetchAhead, Advice::kNone),
    Managed("read-mostly", Fetch::kFaults, Advice::kReadMostly),
    Managed("read-mostly-prefetch", Fetch::kPrefetch, Advice::kReadMostly),
    Managed("prefer-host", Fetch::kFaults, Advice::kPreferHost),
    Managed("prefer-host-prefetch", Fetch::kPrefetch, Advice::kPreferHost),
    Managed("prefer-gpu", Fetch::kFaults, Advice::kPreferGpu),
    Managed("prefer-gpu-prefetch", Fetch::kPrefetch, Advice::kPreferGpu),
};

const Entry& Find(const std::string& name) {
  const auto* const entry =
      std::find_if(std::begin(kModes), std::end(kModes), [&](const Entry& e) { return e.name == name; });
  if (entry == std::end(kModes)) throw examples::Refused("there is no mode '" + name + "'");
  return *entry;
}

}  // namespace

std::vector<std::string> ModeNames() {
  std::vector<std::string> names;
  for (const Entry& entry : kModes) names.emplace_back(entry.name);
  return names;
}

bool IsManagedMode(const std::string& name) { return Find(name).managed; }

std::unique_ptr<Mode> MakeMode(const std::string& name, const Plan& plan, cudaStream_t stream) {
  const Entry& entry = Find(name);
  if (entry.managed) return MakeManagedMode(plan, stream, entry.fetch, entry.advice);
  return MakeManualMode(plan, stream, entry.host);
}

}  // namespace oversub
