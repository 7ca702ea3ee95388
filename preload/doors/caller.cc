#include "preload/doors/caller.h"

#include <dlfcn.h>
#include <link.h>
#include <string.h>

#include <atomic>
#include <string_view>

#include "preload/doors/resolve.h"
#include "preload/doors/visibility.h"
#include "record/loader_work.h"

namespace uvmtrace {
namespace {

// A key is claimed before its target is written, and a reader looks at the key again behind it: a target never stands
// beside another's key.
struct Site {
  std::atomic<uint64_t> key;
  std::atomic<void*> target;
};
constexpr size_t kSites = 4096;
constexpr uint64_t kClaimed = 1;
constinit Site sites[kSites]{};

uint64_t KeyOf(FunctionId id, const void* call_site) {
  return reinterpret_cast<uint64_t>(call_site) ^ static_cast<uint64_t>(id) << 48;
}

Site& SiteOf(uint64_t key) { return sites[(key * 0x9E3779B97F4A7C15u >> 40) % kSites]; }

void Remember(Site& site, uint64_t key, void* target) {
  uint64_t before = site.key.load(std::memory_order_relaxed);
  if (before == kClaimed) return;
  if (!site.key.compare_exchange_strong(before, kClaimed, std::memory_order_acq_rel)) return;
  site.target.store(target, std::memory_order_release);
  site.key.store(key, std::memory_order_release);
}

// The name under which the file that holds `address` needs a libcudart; null if it needs none.
const char* NeededRuntime(const void* address) {
  Dl_info info;
  link_map* map = nullptr;
  if (dladdr1(address, &info, reinterpret_cast<void**>(&map), RTLD_DL_LINKMAP) == 0 || map == nullptr) return nullptr;
  const char* strings = nullptr;
  for (const ElfW(Dyn)* entry = map->l_ld; entry->d_tag != DT_NULL; ++entry) {
    if (entry->d_tag == DT_STRTAB) strings = reinterpret_cast<const char*>(entry->d_un.d_ptr);
  }
  if (strings == nullptr) return nullptr;
  for (const ElfW(Dyn)* entry = map->l_ld; entry->d_tag != DT_NULL; ++entry) {
    if (entry->d_tag != DT_NEEDED) continue;
    const char* const name = strings + entry->d_un.d_val;
    if (std::string_view(name).starts_with("libcudart")) return name;
  }
  return nullptr;
}

int CountRuntime(dl_phdr_info* info, size_t, void* count) {
  const char* const slash = info->dlpi_name != nullptr ? strrchr(info->dlpi_name, '/') : nullptr;
  if (slash != nullptr && std::string_view(slash + 1).starts_with("libcudart")) ++*static_cast<int*>(count);
  return 0;
}

bool SeveralRuntimes() {
  int count = 0;
  dl_iterate_phdr(&CountRuntime, &count);
  return count > 1;
}

// Tells when a second file is called.
void NoteRuntime(const void* function) {
  static constinit std::atomic<const void*> first_base{nullptr};
  static constinit std::atomic<const void*> first_function{nullptr};
  Dl_info info;
  if (dladdr(function, &info) == 0) return;
  const void* before = nullptr;
  if (first_base.compare_exchange_strong(before, info.dli_fbase, std::memory_order_acq_rel)) {
    first_function.store(function, std::memory_order_release);
  } else if (before != info.dli_fbase) {
    if (const void* const first = first_function.load(std::memory_order_acquire)) TellTwoRuntimes(first, function);
  }
}

}  // namespace

void* RuntimeSymbolFor(const void* call_site, const char* name) {
  const LoaderWork loader(LoaderWork::kLookupWaitNs);
  void* next = LibcDlsym()(RTLD_NEXT, name);
  if (IsOwnAddress(next)) next = nullptr;
  if (next != nullptr && !IsRuntimeAddress(next)) return next;
  const char* const needed = NeededRuntime(call_site);
  if (needed == nullptr && SeveralRuntimes()) NoteUnclearCaller(call_site);
  void* const handle = needed != nullptr ? OpenLoaded(needed) : nullptr;
  void* const bound = handle != nullptr ? LibcDlsym()(handle, name) : nullptr;
  if (bound == nullptr || IsOwnAddress(bound)) return next;
  NoteRuntime(bound);
  return bound;
}

void* RuntimeTarget(FunctionId id, const void* call_site) {
  const uint64_t key = KeyOf(id, call_site);
  Site& site = SiteOf(key);
  if (site.key.load(std::memory_order_acquire) == key) [[likely]] {
    void* const target = site.target.load(std::memory_order_acquire);
    if (site.key.load(std::memory_order_relaxed) == key) [[likely]]
      return target;
  }
  void* target = RuntimeSymbolFor(call_site, Function(id).symbol);
  if (target == nullptr) return nullptr;
  NoteRuntimeFunction(id, target);
  Remember(site, key, target);
  return target;
}

}  // namespace uvmtrace
