#include "analyzer/advise/site_paths.h"

#include <fmt/format.h>

#include <algorithm>

#include "analyzer/findings/call_site.h"
#include "analyzer/findings/site_names.h"
#include "proto/apply_format.h"

namespace uvmtrace::analyzer {
namespace {

std::string BaseName(const std::string& path) { return path.substr(path.rfind('/') + 1); }

// Frames of an apply file are parted by blanks.
bool IsOneWord(const std::string& text) { return text.find_first_of(" \t\n") == std::string::npos; }

std::string Joined(std::vector<std::string> frames) {
  if (frames.size() > kApplyPathFrames) {
    frames.resize(kApplyPathFrames);
    frames.emplace_back("...");
  }
  return fmt::format("{}", fmt::join(frames, " < "));
}

// Empty: a frame lies in no known file.
std::string NativePath(const ProcessModel& process, const Stack& stack, Symbolizer* symbolizer) {
  std::vector<std::string> frames;
  for (const uint64_t pc : stack.pcs) {
    const MappingDefinition* mapping = FindMapping(process, stack, pc);
    if (mapping == nullptr || mapping->path.empty() || mapping->path[0] != '/') return {};
    const std::string file = BaseName(mapping->path);
    if (IsSkippedInApplyPath(file)) continue;
    const std::string symbol = symbolizer->LinkName(*mapping, pc);
    frames.push_back(!symbol.empty() && IsOneWord(symbol) ? file + "!" + symbol
                                                          : fmt::format("{}+{:#x}", file, pc - mapping->load_bias));
  }
  return frames.empty() ? std::string() : Joined(std::move(frames));
}

std::string PythonPath(const ProcessModel& process, const Stack& stack) {
  std::vector<std::string> frames;
  for (const uint32_t id : stack.codes) {
    const auto code = process.codes.find(id);
    if (code == process.codes.end()) return {};
    const auto file = process.strings.find(code->second.file);
    const auto function = process.strings.find(code->second.function);
    if (file == process.strings.end() || function == process.strings.end()) return {};
    frames.push_back(fmt::format("{} ({})", function->second, BaseName(file->second)));
  }
  return frames.empty() ? std::string() : Joined(std::move(frames));
}

void AddOnce(const std::string& text, std::vector<std::string>* list) {
  if (!text.empty() && std::find(list->begin(), list->end(), text) == list->end()) list->push_back(text);
}

}  // namespace

std::map<std::string, SitePaths> PathsOfSites(const Run& run, const SymbolOptions& symbols) {
  Symbolizer symbolizer(symbols);
  const SiteNames names(run, &symbolizer);
  std::map<std::string, SitePaths> found;
  for (const auto& process : run) {
    const SiteMemories& memories = process->memory.table().sites();
    for (uint32_t site = 0; site < memories.size(); ++site) {
      const std::string& key = names.KeyOf(*process, site);
      if (key == SiteNames::kOthers || key == SiteNames::kUnattributed) continue;
      SitePaths& paths = found[key];
      const uint32_t stack_id = memories[site].stack;
      // The library compares the variable's name as it was registered.
      if (const ManagedVariableDefinition* variable = process->VariableOfStack(stack_id)) {
        paths.variable = variable->name;
        continue;
      }
      const auto stack = process->stacks.find(stack_id);
      if (stack == process->stacks.end()) continue;
      if (stack->second.codes.empty()) {
        AddOnce(NativePath(*process, stack->second, &symbolizer), &paths.paths);
      } else {
        AddOnce(PythonPath(*process, stack->second), &paths.python);
      }
    }
  }
  return found;
}

}  // namespace uvmtrace::analyzer
