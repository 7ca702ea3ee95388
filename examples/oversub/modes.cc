// The list of modes.
#include <algorithm>
#include <iterator>

#include "examples/common/program.h"
#include "examples/oversub/mode.h"

namespace oversub {
namespace {

struct Entry {
  const char* name;
  bool managed;
  std::unique_ptr<Mode> (*make)(const Plan&, cudaStream_t);
};

constexpr Entry kModes[] = {
    {"manual", false, [](const Plan& plan, cudaStream_t stream) { return MakeManualMode(plan, stream, false); }},
    {"pinned", false, [](const Plan& plan, cudaStream_t stream) { return MakeManualMode(plan, stream, true); }},
    {"uvm", true, [](const Plan& plan, cudaStream_t stream) { return MakeManagedMode(plan, stream, false); }},
    {"prefetch", true, [](const Plan& plan, cudaStream_t stream) { return MakeManagedMode(plan, stream, true); }},
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
  return Find(name).make(plan, stream);
}

}  // namespace oversub
