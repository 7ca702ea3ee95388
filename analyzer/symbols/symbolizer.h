// Names and lines for addresses of a process that is gone, from the files it had mapped.
//
// A name from another build of the same library would be wrong in a way nobody notices, so a file whose build id
// differs from the recorded one is refused. Whatever cannot be named is shown as libfoo.so+0x1234, and why is kept in
// problems().
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "analyzer/read/chunk.h"

namespace uvmtrace::analyzer {

struct SymbolOptions {
  std::string sysroot;                      // put in front of every recorded path
  std::vector<std::string> skipped_frames;  // parts of functions, files or modules that are never the user's line
  std::vector<std::string> debug_dirs;      // searched for separate debug files: DIR/.build-id/ab/cdef.debug
};

struct SymbolFrame {
  std::string function;  // demangled; empty: not known
  std::string file;      // source; empty: not known
  int line = 0;
  std::string module;   // file name of the mapping without folders
  uint64_t offset = 0;  // in the module's own addresses
};

class Symbolizer {
 public:
  explicit Symbolizer(SymbolOptions options);
  ~Symbolizer();
  Symbolizer(const Symbolizer&) = delete;
  Symbolizer& operator=(const Symbolizer&) = delete;

  // The frames of one return address, inlined functions first. Never empty.
  const std::vector<SymbolFrame>& Resolve(const MappingDefinition& mapping, uint64_t return_address);

  // The name in the file's symbol table of the function around a return address, as the linker knows it. Empty: there
  // is none, or its size is not known.
  std::string LinkName(const MappingDefinition& mapping, uint64_t return_address);

  // One sentence for each file that could not be used.
  const std::set<std::string>& problems() const { return problems_; }
  const SymbolOptions& options() const { return options_; }

 private:
  struct Module;
  Module& ModuleOf(const MappingDefinition& mapping);

  SymbolOptions options_;
  std::string debuginfo_path_;
  std::map<std::pair<std::string, std::string>, std::unique_ptr<Module>> modules_;  // by path and build id
  std::map<std::pair<const Module*, uint64_t>, std::vector<SymbolFrame>> cache_;
  std::set<std::string> problems_;
};

// _ZN3fooEv -> foo(); anything that is no mangled name comes back as it is.
std::string Demangle(const std::string& name);

}  // namespace uvmtrace::analyzer
