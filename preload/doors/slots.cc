#include "preload/doors/slots.h"

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#include <algorithm>
#include <string_view>

#include "preload/doors/elf_file.h"
#include "preload/doors/libc_symbols.h"
#include "preload/doors/resolve.h"
#include "preload/doors/targets.h"
#include "preload/doors/visibility.h"
#include "record/memory.h"
#include "record/os/loader_work.h"

constinit std::atomic<bool> uvmtrace_slots_outdated{false};

namespace uvmtrace {
namespace {

#if defined(__x86_64__)
constexpr uint32_t kCallSlot = R_X86_64_JUMP_SLOT;
constexpr uint32_t kDataSlot = R_X86_64_GLOB_DAT;
constexpr uint32_t kPointer = R_X86_64_64;
#elif defined(__aarch64__)
constexpr uint32_t kCallSlot = R_AARCH64_JUMP_SLOT;
constexpr uint32_t kDataSlot = R_AARCH64_GLOB_DAT;
constexpr uint32_t kPointer = R_AARCH64_ABS64;
#endif

struct LoadedFile {
  ElfFile elf;
  const char* name;  // of the file, without its folder
  const ElfW(Phdr) * segments;
  size_t segment_count;
  FileKind kind;
};

// What dl_iterate_phdr counts: equal counts mean the same files.
struct Generation {
  unsigned long long loaded = 0;
  unsigned long long unloaded = 0;
  bool operator==(const Generation&) const = default;
};

// Of one scan. The loader's lock is held during each walk over the files, so none of them is unloaded meanwhile.
class SlotScan {
 public:
  // Returns false if files came or went during the scan: try again.
  bool Run();
  void Free() { files_.Free(); }

 private:
  static int Collect(dl_phdr_info* info, size_t bytes, void* scan);
  static int Visit(dl_phdr_info* info, size_t bytes, void* scan);

  void PatchFile(const LoadedFile& file);
  void PatchSlots(const LoadedFile& file, const ElfW(Rela) * relocations, size_t count);
  void* TargetOf(const LoadedFile& file, FunctionId id, const char* name, const ElfW(Sym) & symbol, void* value);
  void* LazyTarget(const LoadedFile& file, FunctionId id, const char* name);
  bool IsHookOfAnotherCopy(void* value);
  void Write(const LoadedFile& file, void** slot, void* hook);
  bool IsCuda(const LoadedFile& file, FunctionId id) const {
    return file.kind == (Function(id).layer == Layer::kDriver ? FileKind::kDriver : FileKind::kRuntime);
  }

  GrowableArray<LoadedFile> files_;
  size_t cuda_files_ = 0;
  bool out_of_memory_ = false;
  Generation generation_;
  size_t visited_ = 0;
  bool changed_ = false;
  bool unbound_ = false;  // a slot will be bound at its first call, to what is not loaded yet
  uintptr_t unprotected_begin_ = 0;
  uintptr_t unprotected_end_ = 0;
};

// Of the last complete scan.
struct Scanned {
  Generation generation;
  size_t files = 0;  // how many of the list
  size_t cuda_files = 0;
  bool unbound = false;
};
constinit Scanned scanned;
constinit std::atomic<size_t> startup_files{0};  // loaded when the program started: all in the global scope
constinit std::atomic<bool> scanning{false};

uintptr_t PageOf(uintptr_t address) { return address & ~(static_cast<uintptr_t>(getauxval(AT_PAGESZ)) - 1); }

// Whether an address lies in a segment with these flags (PF_W).
bool LiesIn(const LoadedFile& file, const void* address, uint32_t flags) {
  const uintptr_t offset = reinterpret_cast<uintptr_t>(address) - file.elf.base;
  for (size_t i = 0; i < file.segment_count; ++i) {
    const ElfW(Phdr)& segment = file.segments[i];
    if (segment.p_type == PT_LOAD && (segment.p_flags & flags) == flags && offset - segment.p_vaddr < segment.p_memsz)
      return true;
  }
  return false;
}

bool IsCalled(const LoadedFile& file, const char* name) {
  return EqualNames(file.name, name) || (file.elf.soname != nullptr && EqualNames(file.elf.soname, name));
}

int SlotScan::Collect(dl_phdr_info* info, size_t, void* argument) {
  SlotScan& scan = *static_cast<SlotScan*>(argument);
  const Generation generation{info->dlpi_adds, info->dlpi_subs};
  if (scan.files_.size() == 0) {
    if (generation == scanned.generation) return 1;
    scan.generation_ = generation;
  }
  LoadedFile file{};
  file.name = BaseName(info->dlpi_name);
  file.segments = info->dlpi_phdr;
  file.segment_count = info->dlpi_phnum;
  file.kind = KindOfFile(file.name);
  const bool readable = !std::string_view(file.name).starts_with("linux-vdso");
  for (size_t i = 0; readable && i < file.segment_count; ++i) {
    if (file.segments[i].p_type != PT_DYNAMIC) continue;
    file.elf =
        ReadElfFile(info->dlpi_addr, reinterpret_cast<const ElfW(Dyn)*>(info->dlpi_addr + file.segments[i].p_vaddr));
  }
  if (file.kind == FileKind::kDriver || file.kind == FileKind::kRuntime) ++scan.cuda_files_;
  scan.out_of_memory_ |= !scan.files_.Append(file);
  return 0;
}

int SlotScan::Visit(dl_phdr_info* info, size_t, void* argument) {
  SlotScan& scan = *static_cast<SlotScan*>(argument);
  if (Generation{info->dlpi_adds, info->dlpi_subs} != scan.generation_ || scan.visited_ >= scan.files_.size()) {
    scan.changed_ = true;
    return 1;
  }
  const LoadedFile& file = scan.files_[scan.visited_++];
  // The list only grows while nothing is unloaded. A CUDA library that is new may be what an older file waits for.
  const bool known = scan.visited_ <= scanned.files && scan.generation_.unloaded == scanned.generation.unloaded &&
                     scan.cuda_files_ == scanned.cuda_files && !scanned.unbound;
  if (!known && file.kind == FileKind::kOther && file.elf.readable()) scan.PatchFile(file);
  return 0;
}

bool SlotScan::Run() {
  dl_iterate_phdr(&Collect, this);
  if (files_.size() == 0) return true;  // nothing is new
  if (startup_files.load(std::memory_order_relaxed) == 0) {
    startup_files.store(files_.size(), std::memory_order_relaxed);
  }
  if (out_of_memory_) return true;
  if (cuda_files_ != 0) dl_iterate_phdr(&Visit, this);
  if (changed_) return false;
  scanned = {generation_, files_.size(), cuda_files_, unbound_};
  return true;
}

void SlotScan::PatchFile(const LoadedFile& file) {
  PatchSlots(file, file.elf.call_relocations, file.elf.call_relocation_count);
  PatchSlots(file, file.elf.data_relocations, file.elf.data_relocation_count);
  if (unprotected_begin_ != unprotected_end_) {
    mprotect(reinterpret_cast<void*>(unprotected_begin_), unprotected_end_ - unprotected_begin_, PROT_READ);
  }
  unprotected_begin_ = unprotected_end_ = 0;
}

void SlotScan::PatchSlots(const LoadedFile& file, const ElfW(Rela) * relocations, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    const ElfW(Rela)& relocation = relocations[i];
    const uint32_t type = ELF64_R_TYPE(relocation.r_info);
    if (type != kCallSlot && type != kDataSlot && type != kPointer) continue;
    if (relocation.r_addend != 0 && type == kPointer) continue;
    const ElfW(Sym)& symbol = file.elf.symbols[ELF64_R_SYM(relocation.r_info)];
    const char* const name = file.elf.strings + symbol.st_name;
    if (!MayBeInList(name)) continue;
    const FunctionId id = FindFunction(name);
    if (id == kNoFunction) continue;
    void** const slot = reinterpret_cast<void**>(file.elf.base + relocation.r_offset);
    void* const target = TargetOf(file, id, name, symbol, *slot);
    if (target == nullptr) continue;
    void* const hook = HandOut(id, Way::kSymbol, target);
    if (hook != target) Write(file, slot, hook);
  }
}

// The function of CUDA that the slot leads to; null for anything else.
void* SlotScan::TargetOf(const LoadedFile& file, FunctionId id, const char* name, const ElfW(Sym) & symbol,
                         void* value) {
  if (IsOwnAddress(value)) return nullptr;  // a hook
  for (size_t i = 0; i < files_.size(); ++i) {
    if (IsCuda(files_[i], id) && FindDefinition(files_[i].elf, name) == value && value != nullptr) return value;
  }
  if (IsHookOfAnotherCopy(value)) return value;
  const bool defined_here = symbol.st_shndx != SHN_UNDEF;
  if (value == nullptr || defined_here || !LiesIn(file, value, 0)) return nullptr;
  return LazyTarget(file, id, name);
}

// Whether a copy of this library has put its hook there, and that does not lead to a hook of ours already.
bool SlotScan::IsHookOfAnotherCopy(void* value) {
  constexpr int kMostCopies = 8;
  bool of_a_copy = false;
  for (int copies = 0; copies < kMostCopies && value != nullptr; ++copies) {
    if (IsOwnAddress(value)) return false;
    void* question = nullptr;
    for (size_t i = 0; i < files_.size() && question == nullptr; ++i) {
      if (LiesIn(files_[i], value, PF_X)) question = FindDefinition(files_[i].elf, kHookTargetName);
    }
    if (question == nullptr) return of_a_copy;
    value = reinterpret_cast<decltype(&uvmtrace_hook_target)>(question)(value);
    of_a_copy = value != nullptr;
  }
  return false;
}

// What the loader will bind a slot to at its first call: the first definition among the files that were loaded with the
// program, then among the file's own libraries, level by level.
void* SlotScan::LazyTarget(const LoadedFile& file, FunctionId id, const char* name) {
  const size_t at_startup = std::min(startup_files.load(std::memory_order_relaxed), files_.size());
  for (size_t i = 0; i < at_startup; ++i) {
    void* const found = FindDefinition(files_[i].elf, name);
    if (found != nullptr) return IsCuda(files_[i], id) ? found : nullptr;
  }
  constexpr size_t kMost = 256;
  const LoadedFile* family[kMost] = {&file};
  size_t count = 1;
  for (size_t next = 0; next < count; ++next) {
    const LoadedFile& member = *family[next];
    void* const found = FindDefinition(member.elf, name);
    if (found != nullptr) return IsCuda(member, id) ? found : nullptr;
    for (const ElfW(Dyn)* entry = member.elf.dynamic; entry != nullptr && entry->d_tag != DT_NULL; ++entry) {
      if (entry->d_tag != DT_NEEDED) continue;
      const char* const needed = member.elf.strings + entry->d_un.d_val;
      for (size_t i = 0; i < files_.size() && count < kMost; ++i) {
        const LoadedFile* const candidate = &files_[i];
        if (!candidate->elf.readable() || !IsCalled(*candidate, needed)) continue;
        if (std::find(family, family + count, candidate) == family + count) family[count++] = candidate;
        break;
      }
    }
  }
  unbound_ = true;
  return nullptr;
}

// A slot may lie in what the loader has made read-only (RELRO). It is made read-only again behind the file's last slot.
void SlotScan::Write(const LoadedFile& file, void** slot, void* hook) {
  const auto address = reinterpret_cast<uintptr_t>(slot);
  if (!LiesIn(file, slot, PF_W)) return NoteUnpatchedFile(file.name);  // relocated text
  for (size_t i = 0; i < file.segment_count; ++i) {
    const ElfW(Phdr)& segment = file.segments[i];
    if (segment.p_type != PT_GNU_RELRO) continue;
    const uintptr_t begin = PageOf(file.elf.base + segment.p_vaddr);
    const uintptr_t end = PageOf(file.elf.base + segment.p_vaddr + segment.p_memsz);
    if (address < begin || address >= end || unprotected_begin_ == begin) continue;
    if (mprotect(reinterpret_cast<void*>(begin), end - begin, PROT_READ | PROT_WRITE) != 0) {
      return NoteUnpatchedFile(file.name);
    }
    unprotected_begin_ = begin;
    unprotected_end_ = end;
  }
  reinterpret_cast<std::atomic<void*>*>(slot)->store(hook, std::memory_order_release);
}

// Whether the dlsym that everybody calls is this library's, or that of another copy of it. A library that CUDA loads
// (CUDA_INJECTION64_PATH) gets in front of nothing.
bool IsPreloaded() {
  Dl_info dlsym_file{};
  Dl_info copy{};
  return dladdr(reinterpret_cast<void*>(LibcDlsym()(RTLD_DEFAULT, "dlsym")), &dlsym_file) != 0 &&
         dladdr(LibcDlsym()(RTLD_DEFAULT, kHookTargetName), &copy) != 0 && dlsym_file.dli_fbase == copy.dli_fbase;
}

// Before the program's own constructors and main. The program may never use CUDA: then nothing is done but this look.
__attribute__((constructor)) void ScanAtStart() {
  if (IsPreloaded()) ScanSlots();
}

}  // namespace

void ScanSlots() {
  const int host_errno = errno;
  const LoaderWork loader(LoaderWork::kLookupWaitNs);
  uvmtrace_slots_outdated.store(true, std::memory_order_relaxed);
  if (!scanning.exchange(true, std::memory_order_acquire)) {
    uvmtrace_slots_outdated.store(false, std::memory_order_relaxed);
    // Files come and go while other threads load some; what was missed is looked at next time.
    bool complete = false;
    for (int round = 0; round < 3 && !complete; ++round) {
      SlotScan scan;
      complete = scan.Run();
      scan.Free();
    }
    if (!complete) uvmtrace_slots_outdated.store(true, std::memory_order_relaxed);
    scanning.store(false, std::memory_order_release);
    PinTargets();
    TellVisibilityIfNew();
  }
  errno = host_errno;
}

void ForgetSlotScan() { scanning.store(false, std::memory_order_relaxed); }

}  // namespace uvmtrace
