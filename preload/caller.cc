#include "preload/caller.h"

#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <string.h>

#include <atomic>
#include <string_view>

#include "preload/resolve.h"
#include "preload/visibility.h"

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

}  // namespace

void* RuntimeSymbolFor(const void* call_site, const char* name) {
  void* next = LibcDlsym()(RTLD_NEXT, name);
  if (IsOwnAddress(next)) next = nullptr;
  if (next != nullptr && !IsRuntimeAddress(next)) return next;
  const char* const needed = NeededRuntime(call_site);
  void* const handle = needed != nullptr ? OpenLoaded(needed) : nullptr;
  void* const bound = handle != nullptr ? LibcDlsym()(handle, name) : nullptr;
  if (bound == nullptr || IsOwnAddress(bound)) return next;
  if (next != nullptr && bound != next) TellTwoRuntimes(next, bound);
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
