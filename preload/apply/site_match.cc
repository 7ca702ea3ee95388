#include "preload/apply/site_match.h"

#include <limits.h>
#include <link.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>

#include "preload/apply/file_symbols.h"
#include "preload/stacks/code_hashes.h"
#include "record/event.h"
#include "record/os/loader_work.h"

namespace uvmtrace {
namespace {

// What a frame of a path may be. Parallel to ApplyFile::frame.
constinit SymbolRanges ranges[kApplyFrames]{};

// A loaded file.
struct LoadedFile {
  uint64_t begin;
  uint64_t end;
  uint64_t bias;
  bool skipped;
  uint16_t first_frame;  // of the file's name: the first frame of the apply file that lies in it; kNoFrame: none
};
constexpr uint16_t kNoFrame = UINT16_MAX;
constexpr size_t kLoadedFiles = 1024;
constinit LoadedFile loaded[kLoadedFiles]{};
constinit size_t loaded_count = 0;
constinit unsigned long long seen_additions = 0;
constinit unsigned long long seen_removals = 0;
// By first_frame: whether the symbols of this file were looked for.
constinit bool searched[kApplyFrames]{};

std::string_view NameOf(std::string_view path) {
  path.remove_prefix(path.rfind('/') + 1);  // npos + 1 is 0
  return path;
}

struct Walk {
  const ApplyFile* file;
  bool counted = false;
  bool changed = false;
  // Files to search when the walk is over, because the loader's lock is held during it.
  char path[8][PATH_MAX];
  uint16_t path_frame[8];
  int paths = 0;
};
constinit Walk walk{};

uint16_t FirstFrameIn(const ApplyFile& file, std::string_view name) {
  for (uint16_t i = 0; i < file.frames; ++i) {
    if (file.frame[i].file == name) return i;
  }
  return kNoFrame;
}

int VisitLoaded(dl_phdr_info* info, size_t, void*) {
  if (!walk.counted) {
    walk.counted = true;
    walk.changed = info->dlpi_adds != seen_additions || info->dlpi_subs != seen_removals || loaded_count == 0;
    if (!walk.changed) return 1;
    seen_additions = info->dlpi_adds;
    seen_removals = info->dlpi_subs;
    loaded_count = 0;
  }
  if (loaded_count == kLoadedFiles) return 1;
  char own[PATH_MAX];
  const char* path = info->dlpi_name;
  if (path == nullptr || *path == '\0') {  // the program; also the vDSO on some systems, which has no file
    const ssize_t length = readlink("/proc/self/exe", own, sizeof(own) - 1);
    if (length <= 0) return 0;
    own[length] = '\0';
    path = own;
  }
  LoadedFile file{UINT64_MAX, 0, info->dlpi_addr, false, kNoFrame};
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const ElfW(Phdr)& segment = info->dlpi_phdr[i];
    if (segment.p_type != PT_LOAD) continue;
    file.begin = std::min<uint64_t>(file.begin, info->dlpi_addr + segment.p_vaddr);
    file.end = std::max<uint64_t>(file.end, info->dlpi_addr + segment.p_vaddr + segment.p_memsz);
  }
  if (file.begin >= file.end) return 0;
  file.skipped = IsSkippedInApplyPath(NameOf(path));
  file.first_frame = FirstFrameIn(*walk.file, NameOf(path));
  loaded[loaded_count++] = file;
  if (file.first_frame != kNoFrame && !searched[file.first_frame] && walk.paths < 8) {
    searched[file.first_frame] = true;
    snprintf(walk.path[walk.paths], PATH_MAX, "%s", path);
    walk.path_frame[walk.paths++] = file.first_frame;
  }
  return 0;
}

void SearchFile(const ApplyFile& file, const char* path, uint16_t first) {
  WantedSymbol wanted[256];
  size_t count = 0;
  for (uint16_t i = first; i < file.frames; ++i) {
    const ApplyFrame& frame = file.frame[i];
    if (frame.file != file.frame[first].file || frame.function.empty()) continue;
    if (count == std::size(wanted)) {
      FindSymbols(path, {wanted, count});
      count = 0;
    }
    wanted[count++] = {frame.function, &ranges[i]};
  }
  if (count > 0) FindSymbols(path, {wanted, count});
}

// Files that were loaded since the last time, and the functions in them.
void Update(const ApplyFile& file) {
  do {
    walk.file = &file;
    walk.counted = walk.changed = false;
    walk.paths = 0;
    {
      const LoaderWork loader(LoaderWork::kLookupWaitNs);
      dl_iterate_phdr(&VisitLoaded, nullptr);
    }
    for (int i = 0; i < walk.paths; ++i) SearchFile(file, walk.path[i], walk.path_frame[i]);
    if (walk.paths == 8) loaded_count = 0;  // there may be more
  } while (walk.paths == 8);
}

const LoadedFile* FileAt(uint64_t address) {
  for (size_t i = 0; i < loaded_count; ++i) {
    if (address >= loaded[i].begin && address < loaded[i].end) return &loaded[i];
  }
  return nullptr;
}

bool IsFrame(const ApplyFile& file, size_t index, const LoadedFile& at, uint64_t return_address) {
  const ApplyFrame& frame = file.frame[index];
  if (at.first_frame == kNoFrame || frame.file != file.frame[at.first_frame].file) return false;
  if (frame.function.empty()) return return_address - at.bias == frame.offset;
  const uint64_t call = return_address - 1 - at.bias;
  for (int i = 0; i < ranges[index].count; ++i) {
    if (call >= ranges[index].begin[i] && call < ranges[index].end[i]) return true;
  }
  return false;
}

bool MatchesNative(const ApplyFile& file, const ApplyPath& path, std::span<const uint64_t> frames) {
  size_t matched = 0;
  for (const uint64_t address : frames) {
    const LoadedFile* const at = FileAt(address - 1);
    if (at != nullptr && at->skipped) continue;
    if (matched == path.frames) return path.open_end;
    if (at == nullptr || !IsFrame(file, path.first_frame + matched, *at, address)) return false;
    ++matched;
  }
  return matched == path.frames;
}

bool MatchesPython(const ApplyFile& file, const ApplyPath& path, std::span<const uint64_t> frames) {
  if (frames.size() < path.frames || (frames.size() > path.frames && !path.open_end)) return false;
  for (size_t i = 0; i < path.frames; ++i) {
    const ApplyFrame& frame = file.frame[path.first_frame + i];
    if (HashOfCodeId(PythonFrameCode(frames[i])) != HashOfCode(frame.file, frame.function)) return false;
  }
  return true;
}

}  // namespace

void SiteMatcher::Start(const ApplyFile* file) {
  file_ = file;
  loaded_count = 0;
  for (size_t i = 0; i < kApplyFrames; ++i) {
    ranges[i].count = 0;
    searched[i] = false;
  }
}

uint32_t SiteMatcher::Match(std::span<const uint64_t> native, std::span<const uint64_t> python) {
  Update(*file_);
  uint32_t changes = 0;
  for (uint16_t i = 0; i < file_->paths; ++i) {
    const ApplyPath& path = file_->path[i];
    if ((changes >> path.change & 1) != 0 || (path.frames > 0 && path.python != !python.empty())) continue;
    const bool match = path.frames == 0 ? path.open_end
                       : path.python    ? MatchesPython(*file_, path, python)
                                        : MatchesNative(*file_, path, native);
    if (match) changes |= 1u << path.change;
  }
  return changes;
}

bool SiteMatcher::Resolved(size_t change) const {
  for (uint16_t i = 0; i < file_->paths; ++i) {
    const ApplyPath& path = file_->path[i];
    if (path.change != change) continue;
    bool all = true;
    for (size_t frame = path.first_frame; frame < size_t{path.first_frame} + path.frames && !path.python; ++frame) {
      all &= file_->frame[frame].function.empty() || ranges[frame].count > 0;
    }
    if (all) return true;
  }
  return !file_->change[change].variable.empty();
}

}  // namespace uvmtrace
