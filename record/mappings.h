// Which files are mapped where, so that the analyzer can turn return addresses into functions. The writer thread's own.
//
// dl_iterate_phdr holds the loader's lock while it calls back, and a thread inside dlopen may be waiting for one of
// ours: so no lock of the recorder is ever held here, and the callback only copies into memory that no other thread
// sees. The list is walked again only when the loader's counters of additions and removals have moved.
#pragma once

#include <link.h>

#include <cstdint>

#include "record/memory.h"
#include "record/wire.h"

namespace uvmtrace {

class Mappings {
 public:
  // Looks for mappings that are not known yet, and sets how many could not be kept for want of memory. False: another
  // thread is at the loader, or forks; nothing was looked at.
  bool Update(uint64_t now_ns, uint64_t wait_ns, uint32_t* lost);

  bool HasNew() const { return appended_ != mappings_.size(); }
  // What is new, or everything.
  void Append(WireBuffer& out, bool everything);

 private:
  static constexpr size_t kLimitBytes = 8 * 1024 * 1024;
  static constexpr size_t kMaxBuildIdBytes = 32;

  struct Mapping {
    uint64_t start;
    uint64_t end;
    uint64_t load_bias;
    uint64_t seen_ns;
    uint32_t path_offset;
    uint32_t path_bytes;
    uint32_t build_id_bytes;
    bool replaced;  // a later mapping has these addresses
    uint8_t build_id[kMaxBuildIdBytes];
  };

  struct Scan;
  static int OnCounters(dl_phdr_info* info, size_t size, void* scan);
  static int OnObject(dl_phdr_info* info, size_t size, void* scan);
  void AddObject(const dl_phdr_info& info, Scan& scan);
  bool Add(const Mapping& mapping, const char* path, size_t path_bytes);

  GrowableArray<Mapping> mappings_{kLimitBytes};
  GrowableArray<char> paths_{kLimitBytes};
  size_t appended_ = 0;
  uint64_t seen_additions_ = 0;
  uint64_t seen_removals_ = 0;
};

}  // namespace uvmtrace
