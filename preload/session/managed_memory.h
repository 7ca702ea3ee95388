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

  // Before the real free, for once that has returned another thread may own the address. Returns the bytes that lived
  // there, 0 if none did. The memory counts as alive on: a kernel may fault on it until the real free, which waits for
  // that kernel, has returned.
  uint64_t BeginFree(uint64_t address);

  // After the real free, with what BeginFree returned.
  void EndFree(uint64_t bytes);

  // Whether an allocation begins at an address.
  bool Contains(uint64_t address) const;

  bool Live() const;
  uint64_t LiveBytes() const;

  // In a forked child.
  void Forget();
};

extern constinit ManagedMemory managed_memory;

}  // namespace uvmtrace
