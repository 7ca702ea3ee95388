// Which managed allocations are alive: enough to know whether any is, so that the threads that watch managed memory may
// sleep. A table of fixed size without a lock, because a free may come from a signal handler or beside a fork. If ever
// it is too small, managed memory counts as alive from then on, which costs some wake-ups and loses nothing.
#pragma once

#include <cstddef>
#include <cstdint>

namespace uvmtrace {

class ManagedMemory {
 public:
  // Returns whether this is the first live allocation. The same address again (the runtime call above the driver call
  // that was seen already) changes nothing.
  bool Insert(uint64_t address, uint64_t bytes);

  // Returns the bytes that lived at the address, 0 if none did. Called before the real free: once that has returned,
  // another thread may own the address.
  uint64_t Remove(uint64_t address);

  bool Live() const;
  uint64_t LiveBytes() const;

  // In a forked child.
  void Forget();
};

extern constinit ManagedMemory managed_memory;

}  // namespace uvmtrace
