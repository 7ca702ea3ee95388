// Which changes of an apply file are meant for a call stack.
//
// A path names functions, not addresses. Each function is looked up once in the file that holds it, so a stack is
// matched by comparing its addresses with ranges; nothing is symbolised in the host. Frames of the C library, of CUDA's
// libraries and of the interpreter are in no path, and are passed over here. A path of Python functions is compared
// with the Python frames alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "preload/apply/apply_file.h"

namespace uvmtrace {

// Of the process's apply file. Not for several threads at once.
class SiteMatcher {
 public:
  // `file` stays. Looks nothing up yet.
  void Start(const ApplyFile* file);

  // Bit n is change n. `python` has words of PythonFrame; innermost first, both.
  uint32_t Match(std::span<const uint64_t> native, std::span<const uint64_t> python);

  // Whether every named function of one of the change's paths was found in a loaded file: if not, it cannot match.
  bool Resolved(size_t change) const;

  const ApplyFile* file() const { return file_; }

 private:
  const ApplyFile* file_ = nullptr;
};

}  // namespace uvmtrace
