// The line of a stack that a person can change.
//
// In a Python program it is the user's innermost Python line, whatever native frames lie below it. Else it is the first
// native frame outside of CUDA, allocators, containers and frameworks. Both lists are in call_site.cc; a user adds to
// them with SymbolOptions::skipped_frames.
#pragma once

#include <string>
#include <vector>

#include "analyzer/model/process_model.h"
#include "analyzer/symbols/symbolizer.h"

namespace uvmtrace::analyzer {

struct CallSite {
  std::string site;                // empty: no stack was recorded
  std::vector<std::string> stack;  // innermost first
};

// Whether a frame belongs to a container or an allocator: who called it is the question.
bool IsContainerFrame(const std::string& function, const std::string& file);

// "g_table" of a __managed__ variable's own stack; empty: a call allocated the memory.
std::string NameOfVariable(const ProcessModel& process, uint32_t stack_id);

// The file whose code made the call: the innermost one that is neither uvmtrace nor CUDA's runtime or driver.
std::string LibraryOf(const ProcessModel& process, uint32_t stack_id);

// The mapping that a return address lies in; null: none is known.
const MappingDefinition* FindMapping(const ProcessModel& process, const Stack& stack, uint64_t pc);

CallSite ResolveCallSite(const ProcessModel& process, uint32_t stack_id, Symbolizer* symbolizer);

// Whether a Python file, or a module by its path, belongs to the standard library or an installed package.
bool IsFrameworkFile(const std::string& path);

// Whether a frame belongs to CUDA, Python or a framework rather than to the program. `function` may be empty.
bool IsFrameworkFrame(const std::string& module, const std::string& function, const std::string& file);

}  // namespace uvmtrace::analyzer
