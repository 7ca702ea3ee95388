#include "analyzer/findings/call_site.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <string_view>

namespace uvmtrace::analyzer {
namespace {

constexpr std::array<std::string_view, 22> kFrameworkModules = {
    "libuvmtrace", "libcudart", "libcuda.so", "libcupti",    "libc10",    "libtorch",  "libcudnn", "libcublas",
    "libcusparse", "libcufft",  "libcurand",  "libcusolver", "libnccl",   "libpython", "libffi",   "_ctypes.",
    "libstdc++",   "libgcc_s",  "libc.so",    "ld-linux",    "libshm.so", "libnvrtc",
};

bool StartsWith(std::string_view text, std::string_view prefix) { return text.substr(0, prefix.size()) == prefix; }

// python, python3, python3.12
bool IsPythonExecutable(std::string_view module) {
  if (!StartsWith(module, "python")) return false;
  return std::all_of(module.begin() + 6, module.end(),
                     [](unsigned char c) { return std::isdigit(c) != 0 || c == '.' || c == 'd' || c == 't'; });
}

std::string BaseName(const std::string& path) { return path.substr(path.rfind('/') + 1); }

std::string Text(const SymbolFrame& frame, bool whole_path) {
  if (frame.function.empty()) return fmt::format("{}+{:#x}", frame.module.empty() ? "?" : frame.module, frame.offset);
  if (frame.file.empty()) return fmt::format("{} ({})", frame.function, frame.module);
  return fmt::format("{} ({}:{})", frame.function, whole_path ? frame.file : BaseName(frame.file), frame.line);
}

const MappingDefinition* FindMapping(const ProcessModel& process, const Stack& stack, uint64_t pc) {
  for (size_t i = std::min(stack.mappings_known, process.mappings.size()); i-- > 0;) {
    const MappingDefinition& mapping = process.mappings[i];
    if (pc - 1 >= mapping.start && pc - 1 < mapping.end) return &mapping;
  }
  return nullptr;
}

}  // namespace

bool IsFrameworkFrame(const std::string& module, const std::string& function, const std::string& file) {
  for (const std::string_view prefix : kFrameworkModules) {
    if (StartsWith(module, prefix)) return true;
  }
  if (IsPythonExecutable(module)) return true;
  // torch's own extension module.
  if (StartsWith(module, "_C.cpython")) return true;
  // A statically linked CUDA runtime is inside the program's own file; its internals have names like __cudart123.
  if (StartsWith(function, "__cudart") || StartsWith(function, "libcudart_static") ||
      StartsWith(function, "cudart::")) {
    return true;
  }
  const std::string header = BaseName(file);
  if (header == "cuda_runtime.h" || header == "cuda_runtime_api.h") return true;
  const bool c_function = function.find('(') == std::string::npos;
  return c_function && StartsWith(function, "cuda") && function.size() > 4 &&
         std::isupper(static_cast<unsigned char>(function[4])) != 0;
}

CallSite ResolveCallSite(const ProcessModel& process, uint32_t stack_id, Symbolizer* symbolizer) {
  CallSite result;
  const auto found = process.stacks.find(stack_id);
  if (found == process.stacks.end()) return result;
  for (const uint64_t pc : found->second.pcs) {
    const MappingDefinition* mapping = FindMapping(process, found->second, pc);
    if (mapping == nullptr) {
      result.stack.push_back(fmt::format("{:#x}", pc));
      continue;
    }
    for (const SymbolFrame& frame : symbolizer->Resolve(*mapping, pc)) {
      result.stack.push_back(Text(frame, true));
      if (result.site.empty() && !IsFrameworkFrame(frame.module, frame.function, frame.file)) {
        result.site = Text(frame, false);
      }
    }
  }
  if (result.site.empty() && !result.stack.empty()) result.site = result.stack.front();
  return result;
}

}  // namespace uvmtrace::analyzer
