#include "preload/stacks/python_names.h"

#include <algorithm>
#include <new>
#include <string_view>

#include "preload/base/apply_wanted.h"
#include "preload/stacks/code_hashes.h"
#include "record/hash_index.h"
#include "record/os/futex.h"
#include "record/recorder.h"

namespace uvmtrace {
namespace {

// From code objects to ids of Recorder::DefineCode. A code object may be freed and another one take its place, so an
// entry is believed if the code object still has the same two names and the same first line, or if it holds a reference
// (kPinned), which only somebody with the GIL can take.
struct CodeEntry {
  const void* code;
  const void* file;
  const void* name;
  uint64_t names_hash;  // kPinned: this table holds a reference
  uint32_t first_line;
  uint32_t id;
};
constexpr uint64_t kPinned = UINT64_MAX;
constexpr size_t kCodeEntries = 4096;
constinit CodeEntry code_entries[kCodeEntries]{};
constinit ShortLock code_lock;

constexpr size_t kNameBytes = 1024;

size_t AppendUtf8(uint32_t character, char* out) {
  if (character < 0x80) {
    out[0] = static_cast<char>(character);
    return 1;
  }
  if (character < 0x800) {
    out[0] = static_cast<char>(0xc0 | character >> 6);
    out[1] = static_cast<char>(0x80 | (character & 0x3f));
    return 2;
  }
  if (character < 0x10000) {
    if (character >= 0xd800 && character < 0xe000) character = 0xfffd;  // a byte that was no UTF-8
    out[0] = static_cast<char>(0xe0 | character >> 12);
    out[1] = static_cast<char>(0x80 | (character >> 6 & 0x3f));
    out[2] = static_cast<char>(0x80 | (character & 0x3f));
    return 3;
  }
  out[0] = static_cast<char>(0xf0 | character >> 18);
  out[1] = static_cast<char>(0x80 | (character >> 12 & 0x3f));
  out[2] = static_cast<char>(0x80 | (character >> 6 & 0x3f));
  out[3] = static_cast<char>(0x80 | (character & 0x3f));
  return 4;
}

// The text of a Python string, from its memory: PyUnicode_AsUTF8 keeps a copy in the string, which takes the GIL. What
// does not fit is cut.
std::string_view StringText(const PythonApi& python, const PythonLayout& layout, const void* string,
                            char (&buffer)[kNameBytes]) {
  if (TypeOf(string) != python.string_type) return "?";
  const uint32_t state = ReadAt<uint32_t>(string, kStringStateOffset);
  const uint32_t kind = state >> 2 & 7;  // bytes of a character
  const bool compact = (state & kStringIsCompact) != 0;
  const bool ascii = (state & kStringIsAscii) != 0;
  const size_t length = ReadAt<size_t>(string, kStringLengthOffset);
  if (!compact || (kind != 1 && kind != 2 && kind != 4)) return "?";
  const char* const data = static_cast<const char*>(string) + (ascii ? layout.ascii_bytes : layout.compact_bytes);
  if (ascii) return {data, std::min(length, kNameBytes)};
  size_t used = 0;
  for (size_t i = 0; i < length && used + 4 <= kNameBytes; ++i) {
    const uint32_t character = kind == 1   ? ReadAt<uint8_t>(data, i)
                               : kind == 2 ? ReadAt<uint16_t>(data, 2 * i)
                                           : ReadAt<uint32_t>(data, 4 * i);
    used += AppendUtf8(character, buffer + used);
  }
  return {buffer, used};
}

uint32_t DefineCode(std::string_view file, std::string_view name) {
  Recorder& recorder = Recorder::Get();
  const uint32_t id = recorder.DefineCode(recorder.InternString(file), recorder.InternString(name));
  if (ApplyWanted()) RememberCode(id, file, name);
  return id;
}

CodeEntry& EntryOf(const void* code) {
  return code_entries[MixHash(0, reinterpret_cast<uintptr_t>(code)) >> 16 & (kCodeEntries - 1)];
}

// Two names of other strings at the same addresses differ in their cached hashes, or else in their lengths.
uint64_t NamesHash(const void* file, const void* name) {
  const uint64_t hash = MixHash(
      MixHash(MixHash(ReadAt<uint64_t>(file, kStringHashOffset), ReadAt<uint64_t>(file, kStringLengthOffset)),  //
              ReadAt<uint64_t>(name, kStringHashOffset)),
      ReadAt<uint64_t>(name, kStringLengthOffset));
  return hash == kPinned ? 0 : hash;
}

bool AttributeText(const PythonApi& python, PythonObject* object, const char* name, char (&buffer)[kNameBytes],
                   size_t* size) {
  PythonObject* const value = python.attribute(object, name);
  if (value == nullptr) return false;
  ssize_t bytes = 0;
  const char* const text = python.as_utf8(value, &bytes);
  if (text != nullptr) {
    *size = std::min(static_cast<size_t>(bytes), kNameBytes);
    memcpy(buffer, text, *size);
  }
  python.decrement(value);
  return text != nullptr;
}

}  // namespace

uint32_t CodeIdByLayout(const PythonApi& python, const PythonLayout& layout, const void* code) {
  const void* const file = ReadPointer(code, layout.code_file);
  const void* const name = ReadPointer(code, layout.code_name);
  const uint32_t first_line = ReadAt<uint32_t>(code, layout.code_first_line);
  const uint64_t names_hash = NamesHash(file, name);
  CodeEntry& entry = EntryOf(code);
  {
    ShortLockGuard guard(code_lock);
    if (guard && entry.code == code && entry.id != 0 && entry.file == file && entry.name == name &&
        entry.first_line == first_line && entry.names_hash == names_hash) {
      return entry.id;
    }
  }
  char file_buffer[kNameBytes];
  char name_buffer[kNameBytes];
  const uint32_t id =
      DefineCode(StringText(python, layout, file, file_buffer), StringText(python, layout, name, name_buffer));
  ShortLockGuard guard(code_lock);
  if (guard) entry = {code, file, name, names_hash, first_line, id};
  return id;
}

uint32_t CodeIdByApi(const PythonApi& python, int minor, PythonObject* code) {
  CodeEntry& entry = EntryOf(code);
  {
    ShortLockGuard guard(code_lock);
    if (guard && entry.code == code && entry.names_hash == kPinned && entry.id != 0) return entry.id;
  }
  char file[kNameBytes];
  char name[kNameBytes];
  size_t file_bytes = 0;
  size_t name_bytes = 0;
  if (!AttributeText(python, code, "co_filename", file, &file_bytes)) file_bytes = 0;
  if (!AttributeText(python, code, minor >= 11 ? "co_qualname" : "co_name", name, &name_bytes)) name_bytes = 0;
  const uint32_t id = DefineCode({file, file_bytes}, {name, name_bytes});
  // Another thread may be reading the same table by layout, without the GIL.
  ShortLockGuard guard(code_lock);
  if (!guard) return id;
  // An entry that holds a reference stays: to give it up might run code of the program.
  if (entry.names_hash == kPinned && entry.code != code) return id;
  if (entry.code != code || entry.names_hash != kPinned) python.increment(code);
  entry = {code, nullptr, nullptr, kPinned, 0, id};
  return id;
}

void ForgetCodeIds() {
  new (&code_lock) ShortLock;  // its owner does not exist here
  for (CodeEntry& entry : code_entries) {
    // What it holds a reference to stays held.
    if (entry.code != nullptr) entry.id = 0;
  }
}

}  // namespace uvmtrace
