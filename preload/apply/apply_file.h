// Reads an apply file: what to change at which call site. uvmtrace-apply(5) has the format.
//
// The file comes from anywhere. Whatever is wrong with it is one error with its line, and then nothing of it is used:
// half a file would be another experiment than the one that was asked for. Nothing is allocated: the parts point into
// the text.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "proto/apply_format.h"

namespace uvmtrace {

// "program!symbol", "program+0x12", or of Python "function (file.py)".
struct ApplyFrame {
  std::string_view file;      // without folders
  std::string_view function;  // empty: `offset` tells
  uint64_t offset = 0;
};

struct ApplyPath {
  uint16_t first_frame = 0;
  uint16_t frames = 0;
  uint8_t change = 0;
  bool python = false;
  bool open_end = false;  // further frames may follow; without any frame: every stack
};

struct ApplyChange {
  uint32_t line = 0;     // where it begins
  uint32_t actions = 0;  // bit n is ApplyAction n
  uint16_t paths = 0;
  std::string_view kernel;    // empty: any
  std::string_view variable;  // of a __managed__ variable

  bool Has(ApplyAction action) const { return (actions >> static_cast<int>(action) & 1) != 0; }
};

struct ApplyFile {
  ApplyChange change[kApplyChanges];
  ApplyPath path[kApplyPaths];
  ApplyFrame frame[kApplyFrames];
  uint16_t changes = 0;
  uint16_t paths = 0;
  uint16_t frames = 0;

  std::span<const ApplyFrame> FramesOf(const ApplyPath& one) const { return {frame + one.first_frame, one.frames}; }
};

struct ApplyError {
  uint32_t line = 0;
  const char* cause = nullptr;
};

// False with `error` set. The text must stay as long as `file` is used.
bool ParseApplyFile(std::string_view text, ApplyFile* file, ApplyError* error);

}  // namespace uvmtrace
