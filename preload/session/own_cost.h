// What uvmtrace itself costs the program, in the trace: about once a second, and at the end.
#pragma once

#include <atomic>
#include <cstdint>

namespace uvmtrace {

// Spent in the program's threads on opening the trace and the sources, since the session started.
extern constinit std::atomic<uint64_t> start_cost_ns;

// Records a ToolSampleEvent of everything that is known now. Any thread.
void RecordOwnCost();

// In a forked child: nothing was spent yet.
void ForgetOwnCost();

}  // namespace uvmtrace
