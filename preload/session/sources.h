// Which sources of faults and migrations run, at which detail.
//
//   detail    faults, replays, rare events   migrations            kernels   exact counters
//   calls     no                             no                    no        no
//   light     driver's queue                 no                    CUPTI     yes
//   exact     driver's queue                 1 % of the time       CUPTI     yes
//   sampled   driver's queue                 5 % of the time       CUPTI     yes
//   full      driver's queue, else CUPTI     all                   CUPTI     yes
//
// Exact is the default. From its faults, calls and counters the analyzer reconstructs every migration; those that were
// recorded are a check of that.
//
// The driver's threads, the process and memory are sampled from the first context on, kernels and copies from the first
// managed memory or the first 64 MiB of pinned memory on, everything else from the first managed memory on.
//
// The queue and CUPTI never both tell of unified memory: everything would be there twice. Where the queue cannot be
// had, CUPTI takes its place; it cannot record less than everything, so light becomes calls with exact counters, and
// exact and sampled become full. The source states "driver_queue" and "cupti" and the trace's detail changes say what
// was done.
#pragma once

#include <cstdint>

#include "preload/base/config.h"

namespace uvmtrace {

// At the start of a session: what is to be expected of the sources.
void AnnounceSources(const Config& config);

// CUDA cannot be used, so no source will start.
void TellSourcesUnavailable(const Config& config, const char* reason);

// After cuInit, when the first context exists: the driver's threads and counters, the process, memory, links.
void StartSampler(const Config& config);

// When there is so much memory that GPUs read in place over the link that its cost is to be told: kernels and copies.
// They cost about a microsecond for each launch. False: they are not wanted.
bool StartKernelSources(const Config& config);

// After StartSampler, before the first managed allocation is handed out. `cupti_runs`: after StartKernelSources.
void StartManagedSources(const Config& config, bool cupti_runs);

// Whether managed memory exists.
void SetSourcesLive(bool live);

// Whether memory exists that GPUs may read in place over the link.
void SetHostMemoryLive(bool live);

// At most 1.5 s.
void FinishAllSources();

// In a forked child: forget.
void AbandonSourcesAfterFork();

// cuptiGetVersion, 0 without CUPTI.
uint32_t SourcesCuptiVersion();

}  // namespace uvmtrace
