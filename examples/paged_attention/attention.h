// Decode attention over a paged KV cache: its shape, and where a token's keys and values lie.
//
// One query token for each sequence attends to `tokens` earlier ones. Query heads come in groups of eight that share a
// KV head, as in the models that the vLLM log measured (64 query heads, 8 KV heads, head size 128, half precision).
// Keys and values are two pools of blocks, [block][KV head][token in block][128].
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

#ifdef __CUDACC__
#define PAGED_HOST_DEVICE __host__ __device__
#else
#define PAGED_HOST_DEVICE
#endif

namespace paged {

constexpr int kHeadSize = 128;
constexpr int kGroup = 8;         // query heads for one KV head
constexpr int kTileTokens = 128;  // that one thread block works on: a partition of the sequence

// How a kernel finds the block that holds token t of a sequence.
enum class Lookup : int {
  kTable,     // block table: a permutation of all blocks, or what the table holds
  kDirect,    // computed: block number = sequence * blocks per sequence + t / block size
  kNoOffset,  // always block 0: no data to speak of, so what is left is the kernel itself
};

struct Attention {
  const __half* keys;
  const __half* values;
  const __half* query;      // [sequence][KV head][kGroup][kHeadSize]
  const int* table;         // [sequence][blocks per sequence]
  float* partial;           // [sequence][KV head][partition][kGroup][kHeadSize]: weighted sums of values
  float2* partial_weights;  // [sequence][KV head][partition][kGroup]: largest score, sum of exp(score - largest)
  __half* output;           // as query
  int sequences;
  int kv_heads;
  int tokens;        // of each sequence: a multiple of kTileTokens
  int block_tokens;  // a power of two, at most kTileTokens
  Lookup lookup;

  PAGED_HOST_DEVICE int blocks_per_sequence() const { return tokens / block_tokens; }
  PAGED_HOST_DEVICE int partitions() const { return tokens / kTileTokens; }
};

// Number of the block that holds tokens [index * block_tokens, ...) of a sequence, if no table has to be read.
PAGED_HOST_DEVICE inline int BlockWithoutTable(const Attention& attention, int sequence, int index) {
  return attention.lookup == Lookup::kNoOffset ? 0 : sequence * attention.blocks_per_sequence() + index;
}

// First element, in either pool, of token `slot` of a block.
PAGED_HOST_DEVICE inline uint64_t ElementOf(const Attention& attention, int block, int kv_head, int slot) {
  return ((static_cast<uint64_t>(block) * attention.kv_heads + kv_head) * attention.block_tokens + slot) * kHeadSize;
}

// Element `index` of a pool: one of 2048 values in [-1, 1), all of them exact in half precision.
PAGED_HOST_DEVICE inline float ValueAt(uint64_t index, uint64_t seed) {
  uint64_t x = (index + seed) * 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 32)) * 0xd6e8feb86659fd93ull;
  return (static_cast<float>(x >> 53) - 1024.0f) / 1024.0f;
}

// Enqueues the two kernels. `value_load_bytes` is the width of a load from the value pool: 2, 4, 8 or 16.
void EnqueueAttention(const Attention& attention, int value_load_bytes, cudaStream_t stream);

// elements[i] = factor * ValueAt(i, seed); the count is a multiple of 8.
void EnqueueFill(__half* elements, uint64_t count, uint64_t seed, float factor, cudaStream_t stream);

// Reads `bytes` once: what the memory of this GPU can deliver. The count is a multiple of 64.
void EnqueueRead(const void* memory, uint64_t bytes, unsigned* sink, cudaStream_t stream);

// Loads the kernels, so that no timer does.
void PrepareKernels();

}  // namespace paged
