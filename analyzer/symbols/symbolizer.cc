#include "analyzer/symbols/symbolizer.h"

#include <cxxabi.h>
#include <dwarf.h>
#include <elfutils/libdw.h>
#include <elfutils/libdwfl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <cstdlib>
#include <cstring>
#include <string_view>

namespace uvmtrace::analyzer {
namespace {

std::string BaseName(const std::string& path) { return path.substr(path.rfind('/') + 1); }

std::string Hexadecimal(std::string_view bytes) {
  std::string text;
  for (const char byte : bytes) text += fmt::format("{:02x}", static_cast<unsigned char>(byte));
  return text;
}

std::string FunctionName(Dwarf_Die* die) {
  Dwarf_Attribute attribute;
  for (const unsigned name : {DW_AT_linkage_name, DW_AT_MIPS_linkage_name}) {
    if (dwarf_attr_integrate(die, name, &attribute) == nullptr) continue;
    if (const char* mangled = dwarf_formstring(&attribute)) return Demangle(mangled);
  }
  const char* plain = dwarf_diename(die);
  return plain != nullptr ? plain : "";
}

}  // namespace

std::string Demangle(const std::string& name) {
  if (name.rfind("_Z", 0) != 0) return name;
  int status = 0;
  std::unique_ptr<char, decltype(&std::free)> demangled(abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status),
                                                        &std::free);
  return status == 0 && demangled != nullptr ? demangled.get() : name;
}

struct Symbolizer::Module {
  ~Module() {
    if (dwfl != nullptr) dwfl_end(dwfl);
  }
  Dwfl* dwfl = nullptr;
  Dwfl_Module* module = nullptr;  // null: no names
  Dwarf_Addr bias = 0;
  char* debuginfo_path = nullptr;  // owned by the Symbolizer
  Dwfl_Callbacks callbacks{};
};

Symbolizer::Symbolizer(SymbolOptions options) : options_(std::move(options)) {
  for (const std::string& directory : options_.debug_dirs) debuginfo_path_ += directory + ":";
  debuginfo_path_ += ":.debug:" + options_.sysroot + "/usr/lib/debug";
}

Symbolizer::~Symbolizer() = default;

Symbolizer::Module& Symbolizer::ModuleOf(const MappingDefinition& mapping) {
  auto& slot = modules_[{mapping.path, mapping.build_id}];
  if (slot != nullptr) return *slot;
  slot = std::make_unique<Module>();
  Module& module = *slot;
  // [vdso] and memory without a file have no symbols anywhere.
  if (mapping.path.empty() || mapping.path[0] != '/') return module;

  const std::string path = options_.sysroot + mapping.path;
  // Opening a device or a pipe that a damaged trace names could block us, or worse.
  struct stat information {};
  const bool exists = stat(path.c_str(), &information) == 0;
  if (exists && !S_ISREG(information.st_mode)) return module;
  module.debuginfo_path = debuginfo_path_.data();
  module.callbacks.find_elf = dwfl_build_id_find_elf;
  module.callbacks.find_debuginfo = dwfl_standard_find_debuginfo;
  module.callbacks.section_address = dwfl_offline_section_address;
  module.callbacks.debuginfo_path = &module.debuginfo_path;
  module.dwfl = dwfl_begin(&module.callbacks);
  if (module.dwfl == nullptr) return module;
  Dwfl_Module* reported = dwfl_report_offline(module.dwfl, path.c_str(), path.c_str(), -1);
  dwfl_report_end(module.dwfl, nullptr, nullptr);
  if (reported == nullptr) {
    problems_.insert(
        fmt::format("Names of {} are missing: the file {} here. Run uvmtrace-report where the program "
                    "ran, or point "
                    "--sysroot to a copy of its files.",
                    path, exists ? "cannot be read" : "does not exist"));
    return module;
  }
  if (dwfl_module_getelf(reported, &module.bias) == nullptr) return module;
  const unsigned char* build_id = nullptr;
  GElf_Addr build_id_address = 0;
  const int build_id_bytes = dwfl_module_build_id(reported, &build_id, &build_id_address);
  const std::string_view found(reinterpret_cast<const char*>(build_id),
                               build_id_bytes > 0 ? static_cast<size_t>(build_id_bytes) : 0);
  if (!mapping.build_id.empty() && found != mapping.build_id) {
    problems_.insert(
        fmt::format("Names of {} are missing: the file here has build id {}, the program ran {}. Point --sysroot to "
                    "the files that it "
                    "ran.",
                    path, found.empty() ? "none" : Hexadecimal(found), Hexadecimal(mapping.build_id)));
    return module;
  }
  module.module = reported;
  return module;
}

std::string Symbolizer::LinkName(const MappingDefinition& mapping, uint64_t return_address) {
  Module& module = ModuleOf(mapping);
  if (module.module == nullptr) return {};
  const Dwarf_Addr address = return_address - 1 - mapping.load_bias + module.bias;
  GElf_Off offset = 0;
  GElf_Sym symbol{};
  const char* name = dwfl_module_addrinfo(module.module, address, &offset, &symbol, nullptr, nullptr, nullptr);
  return name != nullptr && offset < symbol.st_size ? name : "";
}

const std::vector<SymbolFrame>& Symbolizer::Resolve(const MappingDefinition& mapping, uint64_t return_address) {
  Module& module = ModuleOf(mapping);
  // The call is before the return address, and may be the last instruction of its line or function.
  const uint64_t offset = return_address - 1 - mapping.load_bias;
  auto [entry, is_new] = cache_.try_emplace({&module, offset});
  std::vector<SymbolFrame>& frames = entry->second;
  if (!is_new) return frames;

  SymbolFrame frame;
  frame.module = BaseName(mapping.path);
  frame.offset = return_address - mapping.load_bias;
  if (module.module == nullptr) {
    frames.push_back(frame);
    return frames;
  }
  const Dwarf_Addr address = offset + module.bias;
  if (Dwfl_Line* line = dwfl_module_getsrc(module.module, address)) {
    if (const char* file = dwfl_lineinfo(line, nullptr, &frame.line, nullptr, nullptr, nullptr)) frame.file = file;
  }
  std::string symbol;
  if (const char* name = dwfl_module_addrname(module.module, address)) symbol = Demangle(name);

  // Functions that the compiler inlined around the call, innermost first.
  Dwarf_Addr dwarf_bias = 0;
  Dwarf_Die* unit = dwfl_module_addrdie(module.module, address, &dwarf_bias);
  Dwarf_Die* scopes = nullptr;
  const int outer = unit != nullptr ? dwarf_getscopes(unit, address - dwarf_bias, &scopes) : 0;
  if (outer > 0) {
    Dwarf_Die innermost = scopes[0];
    std::free(scopes);
    scopes = nullptr;
    const int count = dwarf_getscopes_die(&innermost, &scopes);
    Dwarf_Files* files = nullptr;
    dwarf_getsrcfiles(unit, &files, nullptr);
    for (int i = 0; i < count; ++i) {
      if (dwarf_tag(&scopes[i]) != DW_TAG_inlined_subroutine) continue;
      SymbolFrame inlined = frame;
      inlined.function = FunctionName(&scopes[i]);
      frames.push_back(inlined);
      Dwarf_Attribute attribute;
      Dwarf_Word call_line = 0;
      Dwarf_Word call_file = 0;
      if (dwarf_formudata(dwarf_attr(&scopes[i], DW_AT_call_line, &attribute), &call_line) == 0) {
        frame.line = static_cast<int>(call_line);
      }
      if (files != nullptr && dwarf_formudata(dwarf_attr(&scopes[i], DW_AT_call_file, &attribute), &call_file) == 0) {
        if (const char* file = dwarf_filesrc(files, call_file, nullptr, nullptr)) frame.file = file;
      }
    }
  }
  std::free(scopes);
  frame.function = symbol;
  frames.push_back(frame);
  return frames;
}

}  // namespace uvmtrace::analyzer
