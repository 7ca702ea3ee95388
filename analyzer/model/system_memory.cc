#include "analyzer/model/system_memory.h"

#include <algorithm>
#include <iterator>

namespace uvmtrace::analyzer {
namespace {

std::string NameOf(const MemoryAreaDefinition& area) {
  if (!area.name.empty()) return "system memory, " + area.name;
  return area.kind == MemoryAreaKind::kShared ? "system memory, shared" : "system memory, anonymous (malloc, mmap)";
}

}  // namespace

void SystemMemory::Define(const MemoryAreaDefinition& definition, ReadBudget* budget) {
  if (definition.end <= definition.start || budget->Take(Spending::kDefinitions) == 0) return;
  const auto name = known_names_.try_emplace(NameOf(definition), static_cast<uint32_t>(names_.size()));
  if (name.second) names_.push_back(name.first->first);
  Area area;
  area.start = definition.start;
  area.end = definition.end;
  area.seen_ns = definition.seen_ns;
  area.name = name.first->second;
  auto first = current_.upper_bound(area.start);
  if (first != current_.begin() && areas_[std::prev(first)->second].end > area.start) --first;
  auto last = first;
  size_t same = areas_.size();
  for (; last != current_.end() && last->first < area.end; ++last) {
    const Area& there = areas_[last->second];
    if (there.seen_ns > area.seen_ns) return;  // an old one, repeated after a restart
    if (there.name == area.name) same = last->second;
  }
  uint64_t since_ns = AllocationVersion::kNever;
  for (auto replaced = first; replaced != last; ++replaced) {
    Area& there = areas_[replaced->second];
    if (there.name == area.name) {
      area.start = std::min(area.start, there.start);
      area.end = std::max(area.end, there.end);
      since_ns = std::min(since_ns, there.from_ns);
      if (replaced->second != same) there.until_ns = there.from_ns;  // grown together
    } else {
      there.until_ns = std::max(there.from_ns, area.seen_ns - std::min(area.seen_ns, kLookNs));
      area.from_ns = std::max(area.from_ns, there.until_ns);
    }
  }
  current_.erase(first, last);
  if (same == areas_.size()) {
    areas_.push_back(area);
  } else {
    area.from_ns = since_ns;
    areas_[same] = area;
  }
  current_[area.start] = same;
}

void SystemMemory::AddTo(AllocationTable* table) const {
  for (const Area& area : areas_) {
    if (area.until_ns > area.from_ns)
      table->AddSystemMemory(area.start, area.end, area.from_ns, area.until_ns, kStacks | area.name);
  }
}

const std::string* SystemMemory::NameOfStack(uint32_t stack) const {
  if ((stack & kStacks) != kStacks || (stack & ~kStacks) >= names_.size()) return nullptr;
  return &names_[stack & ~kStacks];
}

}  // namespace uvmtrace::analyzer
