// The one thread that drains the rings; chunk_writer.h turns what they held into the file.
//
// Each pass reads the heads of the source rings, then those of the host rings, and then drains the host rings up to
// their heads before the source rings up to theirs. A fault that lies below a source's head was seen after the
// allocation it is about was recorded, so that allocation lies below a host's head, read later: it stands in the file
// before the fault.
#pragma once

#include <cstdint>

#include "record/chunk_writer.h"
#include "record/session.h"

namespace uvmtrace {

class Writer {
 public:
  explicit Writer(Session& session) : session_(session), chunks_(session) {}

  // The thread's main function: writes the first chunk, says in Session::start how that went, and returns after the
  // last.
  void Run();

 private:
  static constexpr uint64_t kPeriodNs = 50'000'000;
  static constexpr uint64_t kHousekeepingNs = 1'000'000'000;  // clock samples, dead threads

  void Pass(bool must_write);
  void ReadHeads();
  void DrainRings(RingKind kind);
  void CollectLosses();

  Session& session_;
  ChunkWriter chunks_;

  ThreadRing* rings_ = nullptr;  // the list as it was when the heads were read
  uint64_t now_ns_ = 0;
  uint64_t next_housekeeping_ns_ = 0;
  bool host_has_ended_ = false;
};

// Starts it in a thread that blocks all signals. Returns whether there is a thread now.
bool StartWriterThread(Session& session);

}  // namespace uvmtrace
