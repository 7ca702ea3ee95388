// The host's part of the work: to write a chunk, and to check and rewrite one. Compiled twice, without optimisation and
// with, because the blog post found that -O3 changes its baseline: these loops then take a fraction of the time, and
// they stood inside its timers.
#pragma once

#include <cstdint>

#include "examples/oversub/visit_kernel.h"

namespace oversub {

void FillChunk(uint64_t* words, uint64_t word_count, uint64_t pattern, bool optimised);

// Every word must belong to `before`; unless `readonly` it becomes one of `after`. Adds to `check`.
void CheckChunk(uint64_t* words, uint64_t word_count, uint64_t chunk, uint64_t before, uint64_t after, bool readonly,
                bool optimised, CheckResult* check);

}  // namespace oversub
