// Names of the host's threads, each written when its tid is first seen, and again if it changes. The writer thread's
// own.
#pragma once

#include <cstdint>
#include <string_view>

#include "record/hash_index.h"
#include "record/memory.h"
#include "record/wire.h"

namespace uvmtrace {

class ThreadNames {
 public:
  // A tid stands in an event. Its name is read from /proc if it is new here. False: no memory.
  bool See(uint32_t tid, uint64_t now_ns);
  // A thread recorded its first event under this name. A tid that was used before takes the new name.
  bool SeeNamed(uint32_t tid, std::string_view name, uint64_t now_ns);

  // Programs name a thread after they start it: threads that have been known for a second are asked once more.
  void AskAgain(uint64_t now_ns);

  bool HasNew() const { return new_entries_ != 0; }
  void Append(WireBuffer& out, bool everything);

 private:
  static constexpr size_t kLimitBytes = 4 * 1024 * 1024;

  struct Entry {
    uint32_t tid;
    uint8_t name_bytes;
    bool is_new;
    char name[16];
    uint64_t first_seen_ns;
  };

  Entry* Find(uint32_t tid);
  bool Add(uint32_t tid, std::string_view name, uint64_t now_ns);
  void Rename(Entry& entry, std::string_view name);

  GrowableArray<Entry> entries_{kLimitBytes};
  HashIndex index_;
  uint32_t last_tid_ = 0;
  size_t asked_again_ = 0;
  size_t new_entries_ = 0;
};

}  // namespace uvmtrace
