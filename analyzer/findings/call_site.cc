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

bool IsInterpreter(std::string_view module) { return IsPythonExecutable(module) || StartsWith(module, "libpython3"); }

std::string BaseName(const std::string& path) { return path.substr(path.rfind('/') + 1); }

std::string Text(const SymbolFrame& frame, bool whole_path) {
  if (frame.function.empty()) return fmt::format("{}+{:#x}", frame.module.empty() ? "?" : frame.module, frame.offset);
  if (frame.file.empty()) return fmt::format("{} ({})", frame.function, frame.module);
  return fmt::format("{} ({}:{})", frame.function, whole_path ? frame.file : BaseName(frame.file), frame.line);
}

bool IsSkipped(const std::vector<std::string>& skipped, const std::string& function, const std::string& file,
               const std::string& module) {
  return std::any_of(skipped.begin(), skipped.end(), [&](const std::string& part) {
    return function.find(part) != std::string::npos || file.find(part) != std::string::npos ||
           module.find(part) != std::string::npos;
  });
}

}  // namespace

const MappingDefinition* FindMapping(const ProcessModel& process, const Stack& stack, uint64_t pc) {
  for (size_t i = std::min(stack.mappings_known, process.mappings.size()); i-- > 0;) {
    const MappingDefinition& mapping = process.mappings[i];
    if (pc - 1 >= mapping.start && pc - 1 < mapping.end) return &mapping;
  }
  return nullptr;
}

bool IsFrameworkFile(const std::string& path) {
  // "<frozen importlib._bootstrap>"; but "<string>" and "<stdin>" are the user's, and so is a notebook's cell.
  if (StartsWith(path, "<frozen ") || StartsWith(path, "<__array_function__")) return true;
  if (path.find("/site-packages/") != std::string::npos || path.find("/dist-packages/") != std::string::npos)
    return true;
  // The standard library: .../lib/python3.12/threading.py
  const size_t library = path.rfind("/lib/python3");
  return library != std::string::npos && path.find('/', library + 5) != std::string::npos;
}

bool IsContainerFrame(const std::string& function, const std::string& file) {
  for (const std::string_view folder :
       {"/include/c++/", "/include/thrust/", "/include/cub/", "/include/cuda/", "/include/rmm/"}) {
    if (file.find(folder) != std::string::npos) return true;
  }
  // The name without its arguments: std::vector<char, Managed<char> >::_M_realloc_insert<char>. A template's instance
  // begins with what it returns.
  size_t end = 0;
  int depth = 0;
  size_t name = 0;
  for (; end < function.size(); ++end) {
    const char c = function[end];
    if (c == '<') ++depth;
    if (c == '>') --depth;
    if (depth != 0) continue;
    if (c == '(') break;
    if (c == ' ' && function.compare(end + 1, 1, "(") != 0) name = end + 1;
  }
  const std::string_view own = std::string_view(function).substr(name, end - name);
  for (const std::string_view prefix : {"std::", "__gnu_cxx::", "thrust::", "rmm::", "cub::", "cuda::"}) {
    if (StartsWith(own, prefix)) return true;
  }
  if (function.compare(0, 12, "operator new") == 0) return true;
  // A user's own allocator, as containers call it.
  const size_t member = own.rfind("::");
  return member != std::string_view::npos &&
         (own.substr(member + 2) == "allocate" || own.substr(member + 2) == "do_allocate");
}

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

namespace {

// The Python frames of a stack stand where the interpreter's own frames do: those say nothing about the program.
class PythonFrames {
 public:
  PythonFrames(const ProcessModel& process, const Stack& stack, const std::vector<std::string>& skipped)
      : process_(process), stack_(stack), skipped_(skipped) {}

  bool empty() const { return stack_.codes.empty(); }

  // Once.
  void AppendTo(CallSite* result) {
    if (appended_) return;
    appended_ = true;
    for (size_t i = 0; i < stack_.codes.size(); ++i) {
      const auto code = process_.codes.find(stack_.codes[i]);
      const std::string file = code == process_.codes.end() ? "?" : StringOf(code->second.file);
      const std::string function = code == process_.codes.end() ? "?" : StringOf(code->second.function);
      result->stack.push_back(fmt::format("{} ({}:{})", function, file, stack_.lines[i]));
      std::string site = fmt::format("{} ({}:{})", function, BaseName(file), stack_.lines[i]);
      if (user_line_.empty() && !IsFrameworkFile(file) && !IsSkipped(skipped_, function, file, "")) user_line_ = site;
      if (i == 0) innermost_ = std::move(site);
    }
  }
  const std::string& user_line() const { return user_line_; }
  const std::string& innermost() const { return innermost_; }

 private:
  std::string StringOf(uint32_t id) const {
    const auto found = process_.strings.find(id);
    return found == process_.strings.end() ? "?" : found->second;
  }

  const ProcessModel& process_;
  const Stack& stack_;
  const std::vector<std::string>& skipped_;
  bool appended_ = false;
  std::string user_line_;
  std::string innermost_;
};

}  // namespace

std::string NameOfVariable(const ProcessModel& process, uint32_t stack_id) {
  const ManagedVariableDefinition* variable = process.VariableOfStack(stack_id);
  return variable == nullptr ? std::string() : Demangle(variable->name);
}

std::string LibraryOf(const ProcessModel& process, uint32_t stack_id) {
  const auto found = process.stacks.find(stack_id);
  if (found == process.stacks.end()) return {};
  for (const uint64_t pc : found->second.pcs) {
    const MappingDefinition* mapping = FindMapping(process, found->second, pc);
    if (mapping == nullptr) continue;
    const std::string module = BaseName(mapping->path);
    if (StartsWith(module, "libuvmtrace") || StartsWith(module, "libcudart") || StartsWith(module, "libcuda.so"))
      continue;
    return mapping->path;
  }
  return {};
}

CallSite ResolveCallSite(const ProcessModel& process, uint32_t stack_id, Symbolizer* symbolizer) {
  CallSite result;
  const std::string variable = NameOfVariable(process, stack_id);
  if (!variable.empty()) {
    result.site = "variable " + variable;
    result.stack.push_back(result.site);
    return result;
  }
  if (const std::string* area = process.system_memory.NameOfStack(stack_id)) {
    result.site = *area;
    result.stack.push_back(*area);
    return result;
  }
  const auto found = process.stacks.find(stack_id);
  if (found == process.stacks.end()) return result;
  const std::vector<std::string>& skipped = symbolizer->options().skipped_frames;
  PythonFrames python(process, found->second, skipped);
  std::string native;     // the user's
  std::string container;  // if there is nothing better
  for (const uint64_t pc : found->second.pcs) {
    const MappingDefinition* mapping = FindMapping(process, found->second, pc);
    if (mapping == nullptr) {
      result.stack.push_back(fmt::format("{:#x}", pc));
      continue;
    }
    for (const SymbolFrame& frame : symbolizer->Resolve(*mapping, pc)) {
      if (!python.empty() && IsInterpreter(frame.module)) {
        python.AppendTo(&result);
        continue;
      }
      result.stack.push_back(Text(frame, true));
      // Beneath Python, a module of a package is a framework's; without Python frames it is the best that there is.
      if (!native.empty() || IsFrameworkFrame(frame.module, frame.function, frame.file) ||
          (!python.empty() && IsFrameworkFile(mapping->path))) {
        continue;
      }
      if (IsContainerFrame(frame.function, frame.file) ||
          IsSkipped(skipped, frame.function, frame.file, frame.module)) {
        if (container.empty()) container = Text(frame, false);
      } else {
        native = Text(frame, false);
      }
    }
  }
  python.AppendTo(&result);  // the interpreter was beyond the last frame
  for (const std::string& best : {python.user_line(), native, container, python.innermost()}) {
    if (!result.site.empty()) break;
    result.site = best;
  }
  if (result.site.empty() && !result.stack.empty()) result.site = result.stack.front();
  return result;
}

}  // namespace uvmtrace::analyzer
