// Writes and checks the tokens of a request, wherever a backend has put them.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "examples/common/managed_memory.h"

#ifdef __CUDACC__
#define FRAGMENTATION_HOST_DEVICE __host__ __device__
#else
#define FRAGMENTATION_HOST_DEVICE
#endif

namespace fragmentation {

// A request's KV cache: a number of ranges (keys and values of each layer), each a row of tokens.
struct View {
  char* base = nullptr;
  const int* table = nullptr;  // null: one block holds all tokens
  uint64_t block_bytes = 0;    // from one block to the next; all ranges of its tokens lie in a block
  uint64_t range_bytes = 0;    // from one range to the next, within a block
  int block_tokens = 0;        // of a range
  int ranges = 0;
  int token_bytes = 0;  // of one token in one range, a multiple of 8
};

FRAGMENTATION_HOST_DEVICE inline char* TokenAddress(const View& view, int block, int range, int slot) {
  return view.base + block * view.block_bytes + range * view.range_bytes +
         static_cast<int64_t>(slot) * view.token_bytes;
}

FRAGMENTATION_HOST_DEVICE inline uint64_t TokenWord(uint64_t request, int range, int token) {
  return (request + 1) * 0x9e3779b97f4a7c15ull ^ (static_cast<uint64_t>(range) << 32 | static_cast<uint32_t>(token));
}

class Tokens {
 public:
  Tokens();
  // Every word of tokens [first, last) in every range gets the request's word.
  void Write(const View& view, uint64_t request, int first, int last, cudaStream_t stream);
  void Verify(const View& view, uint64_t request, int tokens, cudaStream_t stream);
  unsigned long long WrongWords(cudaStream_t stream);

 private:
  void Launch(const View& view, uint64_t request, int first, int last, bool write, cudaStream_t stream);
  examples::DeviceMemory wrong_;
};

}  // namespace fragmentation
