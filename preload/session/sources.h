// Which sources of faults and migrations run, at which detail.
//
//   detail    faults, replays, rare events   migrations            kernels   exact counters
//   calls     no                             no                    no        no
//   light     driver's queue                 no                    CUPTI     yes
//   sampled   driver's queue                 5 % of the time       CUPTI     yes
//   full      driver's queue, else CUPTI     all                   CUPTI     yes
//   auto      as full, and as sampled from when full would cost more than UVMTRACE_MAX_OVERHEAD
//
// The queue and CUPTI never both tell of unified memory: everything would be there twice. Where the queue cannot be
// had, CUPTI takes its place; it cannot record less than everything, so light becomes calls with exact counters, and
// sampled becomes full. The source states "driver_queue" and "cupti" and the trace's detail changes say what was done.
#pragma once

#include <cstdint>

#include "preload/base/config.h"

namespace uvmtrace {

// At the start of a session: what is to be expected of the sources.
void AnnounceSources(const Config& config);

// CUDA cannot be used, so no source will start.
void TellSourcesUnavailable(const Config& config, const char* reason);

// After cuInit, before the first managed allocation is handed out.
void StartSources(const Config& config);

// Whether managed memory exists.
void SetSourcesLive(bool live);

// At most 1.5 s.
void FinishAllSources();

// In a forked child: forget.
void AbandonSourcesAfterFork();

// cuptiGetVersion, 0 without CUPTI.
uint32_t SourcesCuptiVersion();

}  // namespace uvmtrace
