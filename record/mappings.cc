// See mappings.h.
#include "record/mappings.h"

#include <elf.h>
#include <limits.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "record/chunk_format.h"
#include "record/os/loader_work.h"

namespace uvmtrace {
namespace {

size_t ReadLink(const char* path, char* out, size_t size) {
  const ssize_t length = readlink(path, out, size);
  return length > 0 ? static_cast<size_t>(length) : 0;
}

// The GNU build id of an object that the loader has mapped; 0 bytes if it has none. Notes outside a loaded segment are
// in the file only, and are not looked at.
size_t ReadBuildId(const dl_phdr_info& info, uint8_t* out, size_t limit) {
  for (int i = 0; i < info.dlpi_phnum; ++i) {
    const ElfW(Phdr)& segment = info.dlpi_phdr[i];
    if (segment.p_type != PT_NOTE) continue;
    bool loaded = false;
    for (int j = 0; j < info.dlpi_phnum; ++j) {
      const ElfW(Phdr)& load = info.dlpi_phdr[j];
      loaded |= load.p_type == PT_LOAD && (load.p_flags & PF_R) != 0 && segment.p_vaddr >= load.p_vaddr &&
                segment.p_vaddr + segment.p_filesz <= load.p_vaddr + load.p_filesz;
    }
    if (!loaded) continue;
    // Fields are padded to the segment's alignment: 4, or 8 in .note.gnu.property.
    const size_t alignment = segment.p_align == 8 ? 8 : 4;
    const uint8_t* notes = reinterpret_cast<const uint8_t*>(info.dlpi_addr + segment.p_vaddr);
    size_t left = segment.p_filesz;
    while (left >= sizeof(ElfW(Nhdr))) {
      ElfW(Nhdr) note;
      memcpy(&note, notes, sizeof(note));
      const size_t name_end = sizeof(note) + note.n_namesz;
      const size_t description = (name_end + alignment - 1) & ~(alignment - 1);
      const size_t next = (description + note.n_descsz + alignment - 1) & ~(alignment - 1);
      if (name_end > left || description + note.n_descsz > left) break;
      if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && memcmp(notes + sizeof(note), "GNU", 4) == 0 &&
          note.n_descsz <= limit) {
        memcpy(out, notes + description, note.n_descsz);
        return note.n_descsz;
      }
      if (next >= left) break;
      notes += next;
      left -= next;
    }
  }
  return 0;
}

}  // namespace

struct Mappings::Scan {
  Mappings* mappings;
  uint64_t now_ns;
  uint64_t additions;
  uint64_t removals;
  uint32_t lost;
  size_t executable_bytes;
  size_t folder_bytes;
  char executable[PATH_MAX];
  char folder[PATH_MAX];
};

// Looks at the counters that come with the first object and stops.
int Mappings::OnCounters(dl_phdr_info* info, size_t size, void* data) {
  Scan& scan = *static_cast<Scan*>(data);
  if (size < offsetof(dl_phdr_info, dlpi_subs) + sizeof(info->dlpi_subs)) return 1;
  scan.additions = info->dlpi_adds;
  scan.removals = info->dlpi_subs;
  return 1;
}

int Mappings::OnObject(dl_phdr_info* info, size_t, void* data) {
  Scan& scan = *static_cast<Scan*>(data);
  scan.mappings->AddObject(*info, scan);
  return 0;
}

void Mappings::AddObject(const dl_phdr_info& info, Scan& scan) {
  char path[2 * PATH_MAX];
  size_t path_bytes = 0;
  if (info.dlpi_name == nullptr || info.dlpi_name[0] == 0) {
    // The loader gives no name to the main program, nor, in some versions, to the vdso.
    memcpy(path, scan.executable, scan.executable_bytes);
    path_bytes = scan.executable_bytes;
  } else {
    const size_t name_bytes = strnlen(info.dlpi_name, PATH_MAX - 1);
    if (info.dlpi_name[0] != '/' && scan.folder_bytes != 0) {
      memcpy(path, scan.folder, scan.folder_bytes);
      path[scan.folder_bytes] = '/';
      path_bytes = scan.folder_bytes + 1;
    }
    memcpy(path + path_bytes, info.dlpi_name, name_bytes);
    path_bytes += name_bytes;
  }

  Mapping mapping = {};
  mapping.load_bias = info.dlpi_addr;
  mapping.seen_ns = scan.now_ns;
  mapping.build_id_bytes = static_cast<uint32_t>(ReadBuildId(info, mapping.build_id, sizeof(mapping.build_id)));
  const uint64_t vdso = getauxval(AT_SYSINFO_EHDR);
  for (int i = 0; i < info.dlpi_phnum; ++i) {
    const ElfW(Phdr)& segment = info.dlpi_phdr[i];
    if (segment.p_type != PT_LOAD || (segment.p_flags & PF_X) == 0) continue;
    mapping.start = info.dlpi_addr + segment.p_vaddr;
    mapping.end = mapping.start + segment.p_memsz;
    // The vdso is no file: the analyzer could not open it.
    if (vdso != 0 && vdso >= mapping.start && vdso < mapping.end) continue;
    if (!Add(mapping, path, path_bytes)) ++scan.lost;
  }
}

bool Mappings::Add(const Mapping& mapping, const char* path, size_t path_bytes) {
  for (size_t i = 0; i < mappings_.size(); ++i) {
    Mapping& known = mappings_[i];
    if (known.replaced || known.end <= mapping.start || mapping.end <= known.start) continue;
    if (known.start == mapping.start && known.end == mapping.end && known.load_bias == mapping.load_bias &&
        known.build_id_bytes == mapping.build_id_bytes &&
        memcmp(known.build_id, mapping.build_id, mapping.build_id_bytes) == 0 && known.path_bytes == path_bytes &&
        memcmp(paths_.data() + known.path_offset, path, path_bytes) == 0) {
      return true;
    }
    known.replaced = true;
  }
  Mapping added = mapping;
  added.path_offset = static_cast<uint32_t>(paths_.size());
  added.path_bytes = static_cast<uint32_t>(path_bytes);
  if (!mappings_.Reserve(1) || !paths_.Append(path, path_bytes)) return false;
  return mappings_.Append(added);
}

bool Mappings::Update(uint64_t now_ns, uint64_t wait_ns, uint32_t* lost) {
  const LoaderWork loader(wait_ns);
  if (!loader.owner()) return false;
  *lost = 0;
  static Scan scan;  // the writer's thread alone, and too large for its small stack
  scan.mappings = this;
  scan.now_ns = now_ns;
  scan.lost = 0;
  // A loader without counters (before glibc 2.4) would be walked once.
  scan.additions = 1;
  scan.removals = 0;
  dl_iterate_phdr(OnCounters, &scan);
  if (scan.additions == seen_additions_ && scan.removals == seen_removals_) return true;
  // An object that comes between the two walks is seen by this one, and again, in vain, by the next.
  seen_additions_ = scan.additions;
  seen_removals_ = scan.removals;
  // Links are read before the loader's lock is taken: a folder on a dead network mount must not hold up dlopen.
  scan.executable_bytes = ReadLink("/proc/self/exe", scan.executable, sizeof(scan.executable));
  scan.folder_bytes = ReadLink("/proc/self/cwd", scan.folder, sizeof(scan.folder));
  dl_iterate_phdr(OnObject, &scan);
  *lost = scan.lost;
  return true;
}

void Mappings::Append(WireBuffer& out, bool everything) {
  for (size_t i = everything ? 0 : appended_; i < mappings_.size(); ++i) {
    const Mapping& mapping = mappings_[i];
    const size_t body = out.BeginMessage(chunk_field::kMapping);
    out.Unsigned(1, i + 1);
    out.Unsigned(2, mapping.start);
    out.Unsigned(3, mapping.end);
    out.Unsigned(4, mapping.load_bias);
    out.String(5, {paths_.data() + mapping.path_offset, mapping.path_bytes});
    out.Bytes(6, mapping.build_id, mapping.build_id_bytes);
    out.Unsigned(7, mapping.seen_ns);
    out.EndMessage(body);
  }
  appended_ = mappings_.size();
}

}  // namespace uvmtrace
