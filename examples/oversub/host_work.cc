#include "examples/oversub/host_work.h"

namespace oversub {
namespace {

__attribute__((optimize("O0"))) void FillSlowly(uint64_t* words, uint64_t word_count, uint64_t pattern) {
  for (uint64_t i = 0; i < word_count; ++i) words[i] = pattern ^ (i * 0x9e3779b97f4a7c15ull);
}

__attribute__((optimize("O3"))) void FillFast(uint64_t* words, uint64_t word_count, uint64_t pattern) {
  for (uint64_t i = 0; i < word_count; ++i) words[i] = WordOfPattern(pattern, i);
}

}  // namespace

void FillChunk(uint64_t* words, uint64_t word_count, uint64_t pattern, bool optimised) {
  (optimised ? FillFast : FillSlowly)(words, word_count, pattern);
}

void CheckChunk(uint64_t* words, uint64_t word_count, uint64_t chunk, uint64_t before, uint64_t after, bool readonly,
                bool optimised, CheckResult* check) {
  for (uint64_t i = 0; i < word_count; ++i) {
    const uint64_t expected = WordOfPattern(before, i);
    if (words[i] != expected && check->mismatches++ == 0) *check = {1, chunk, i, expected, words[i]};
  }
  if (!readonly) FillChunk(words, word_count, after, optimised);
}

}  // namespace oversub
