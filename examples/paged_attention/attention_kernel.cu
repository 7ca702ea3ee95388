// The kernels, and beside each the same work for the simulator.
//
// One thread block serves a KV head, a sequence and a partition of 128 tokens. It asks for all keys and all values of
// the partition at once, by asynchronous copies to shared memory, and three such blocks fit on a multiprocessor: so
// much is on its way that the memory is kept busy without any further trick. The arithmetic is four small matrix
// products on the tensor cores, eight query heads at a time, so each key and value is fetched once for its eight heads:
//
//   scores [128 tokens x 8 heads] = keys [128 x 128] * query^T [128 x 8]
//   weights = softmax of each head's scores, within the partition
//   output^T [128 dimensions x 8 heads] = values^T [128 x 128] * weights [128 x 8]
//
// A second kernel puts the partitions together (the "flash decoding" scheme, vLLM's version 2).
#include <cuda_pipeline.h>
#include <mma.h>

#include <cmath>
#include <vector>

#include "examples/common/program.h"
#include "examples/paged_attention/attention.h"
#include "sim/include/uvmsim.h"

namespace paged {
namespace {

using examples::Check;
using nvcuda::wmma::accumulator;
using nvcuda::wmma::col_major;
using nvcuda::wmma::fragment;
using nvcuda::wmma::matrix_a;
using nvcuda::wmma::matrix_b;
using nvcuda::wmma::row_major;

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / 32;
constexpr int kWarpRows = kTileTokens / kWarps;  // tokens, and later dimensions, of one warp: 32
// Rows of a tile in shared memory stand 16 bytes further apart than they are long: no two rows of eight share a bank.
constexpr int kPitch = kHeadSize + 8;
constexpr int kScorePitch = kTileTokens + 4;

struct SharedTiles {
  __half keys[kTileTokens * kPitch];
  __half values[kTileTokens * kPitch];
  __half query[kGroup * kPitch];
  int blocks[kTileTokens];  // number of each block of this partition
};

// Take the place of the keys, once these have been read.
struct ScoreTiles {
  float scores[kGroup * kScorePitch];  // [head][token]
  __half weights[kGroup * kPitch];     // [head][token]
};
static_assert(sizeof(ScoreTiles) <= sizeof(SharedTiles::keys));
static_assert(offsetof(ScoreTiles, weights) % 32 == 0 && offsetof(SharedTiles, values) % 32 == 0 &&
                  offsetof(SharedTiles, query) % 32 == 0,
              "matrix fragments are loaded from multiples of 32 bytes");

// Copies the rows of one partition and KV head from a pool to shared memory, kBytes a time.
template <int kBytes>
__device__ void LoadTile(const Attention& attention, const __half* pool, int kv_head, const int* blocks, __half* tile) {
  constexpr int kPiecesOfRow = kHeadSize * sizeof(__half) / kBytes;
  constexpr int kElements = kBytes / sizeof(__half);
#pragma unroll 8
  for (int piece = threadIdx.x; piece < kTileTokens * kPiecesOfRow; piece += kThreads) {
    const int token = piece / kPiecesOfRow;
    const int element = piece % kPiecesOfRow * kElements;
    const int block = blocks[token / attention.block_tokens];
    const __half* from = pool + ElementOf(attention, block, kv_head, token % attention.block_tokens) + element;
    __half* to = tile + token * kPitch + element;
    if constexpr (kBytes == 16) {
      __pipeline_memcpy_async(to, from, 16);
    } else if constexpr (kBytes == 8) {
      *reinterpret_cast<uint2*>(to) = *reinterpret_cast<const uint2*>(from);
    } else if constexpr (kBytes == 4) {
      *reinterpret_cast<unsigned*>(to) = *reinterpret_cast<const unsigned*>(from);
    } else {
      *to = *from;
    }
  }
}

__device__ float WarpMaximum(float x) {
  for (int distance = 16; distance > 0; distance /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, distance));
  return x;
}
__device__ float WarpSum(float x) {
  for (int distance = 16; distance > 0; distance /= 2) x += __shfl_xor_sync(0xffffffffu, x, distance);
  return x;
}

template <int kValueLoadBytes>
__global__ void __launch_bounds__(kThreads, 3) AttendToPartition(Attention attention) {
  extern __shared__ __align__(128) unsigned char shared[];
  auto* const tiles = reinterpret_cast<SharedTiles*>(shared);
  auto* const score_tiles = reinterpret_cast<ScoreTiles*>(tiles->keys);
  const int partition = blockIdx.x;
  const int kv_head = blockIdx.y;
  const int sequence = blockIdx.z;
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const int row = sequence * attention.kv_heads + kv_head;

  // Which blocks: the block table is read here, once for 128 tokens, or not at all.
  const int block_count = kTileTokens / attention.block_tokens;
  for (int i = threadIdx.x; i < block_count; i += kThreads) {
    const int index = partition * block_count + i;
    tiles->blocks[i] = attention.lookup == Lookup::kTable
                           ? attention.table[sequence * attention.blocks_per_sequence() + index]
                           : BlockWithoutTable(attention, sequence, index);
  }
  {
    const int head = threadIdx.x / 16;  // 16 threads copy the 256 bytes of a head
    const int element = threadIdx.x % 16 * 8;
    *reinterpret_cast<uint4*>(tiles->query + head * kPitch + element) = *reinterpret_cast<const uint4*>(
        attention.query + (static_cast<size_t>(row) * kGroup + head) * kHeadSize + element);
  }
  __syncthreads();

  LoadTile<16>(attention, attention.keys, kv_head, tiles->blocks, tiles->keys);
  __pipeline_commit();
  LoadTile<kValueLoadBytes>(attention, attention.values, kv_head, tiles->blocks, tiles->values);
  __pipeline_commit();
  __pipeline_wait_prior(1);  // the keys have arrived
  __syncthreads();

  fragment<accumulator, 32, 8, 16, float> products;
  fragment<matrix_b, 32, 8, 16, __half, col_major> right;
  nvcuda::wmma::fill_fragment(products, 0.0f);
  for (int d = 0; d < kHeadSize; d += 16) {
    fragment<matrix_a, 32, 8, 16, __half, row_major> left;
    nvcuda::wmma::load_matrix_sync(left, tiles->keys + warp * kWarpRows * kPitch + d, kPitch);
    nvcuda::wmma::load_matrix_sync(right, tiles->query + d, kPitch);
    nvcuda::wmma::mma_sync(products, left, right, products);
  }
  __syncthreads();  // all warps have read the keys: the scores may take their place
  nvcuda::wmma::store_matrix_sync(score_tiles->scores + warp * kWarpRows, products, kScorePitch,
                                  nvcuda::wmma::mem_col_major);
  __syncthreads();

  const float scale = rsqrtf(static_cast<float>(kHeadSize));
  for (int head = warp; head < kGroup; head += kWarps) {
    float scores[kTileTokens / 32];
    float largest = -INFINITY;
    for (int i = 0; i < kTileTokens / 32; ++i) {
      scores[i] = score_tiles->scores[head * kScorePitch + i * 32 + lane] * scale;
      largest = fmaxf(largest, scores[i]);
    }
    largest = WarpMaximum(largest);
    float sum = 0;
    for (int i = 0; i < kTileTokens / 32; ++i) {
      const __half weight = __float2half(__expf(scores[i] - largest));
      score_tiles->weights[head * kPitch + i * 32 + lane] = weight;
      sum += __half2float(weight);
    }
    sum = WarpSum(sum);
    if (lane == 0) {
      attention.partial_weights[(static_cast<size_t>(row) * attention.partitions() + partition) * kGroup + head] =
          make_float2(largest, sum);
    }
  }
  __pipeline_wait_prior(0);  // the values have arrived
  __syncthreads();

  nvcuda::wmma::fill_fragment(products, 0.0f);
  for (int token = 0; token < kTileTokens; token += 16) {
    fragment<matrix_a, 32, 8, 16, __half, col_major> left;
    nvcuda::wmma::load_matrix_sync(left, tiles->values + token * kPitch + warp * kWarpRows, kPitch);
    nvcuda::wmma::load_matrix_sync(right, score_tiles->weights + token, kPitch);
    nvcuda::wmma::mma_sync(products, left, right, products);
  }
  float* const out =
      attention.partial + (static_cast<size_t>(row) * attention.partitions() + partition) * kGroup * kHeadSize;
  nvcuda::wmma::store_matrix_sync(out + warp * kWarpRows, products, kHeadSize, nvcuda::wmma::mem_col_major);
}

// One thread block for a query head, one thread for a dimension.
__global__ void CombinePartitions(Attention attention) {
  const int head = blockIdx.x % kGroup;
  const size_t row = static_cast<size_t>(blockIdx.y) * attention.kv_heads + blockIdx.x / kGroup;
  const float2* const weights = attention.partial_weights + row * attention.partitions() * kGroup + head;
  const float* const partial = attention.partial + (row * attention.partitions() * kGroup + head) * kHeadSize;
  float largest = -INFINITY;
  for (int p = 0; p < attention.partitions(); ++p) largest = fmaxf(largest, weights[p * kGroup].x);
  float sum = 0;
  float value = 0;
  for (int p = 0; p < attention.partitions(); ++p) {
    const float factor = __expf(weights[p * kGroup].x - largest);
    sum += factor * weights[p * kGroup].y;
    value += factor * partial[static_cast<size_t>(p) * kGroup * kHeadSize + threadIdx.x];
  }
  attention.output[(row * kGroup + head) * kHeadSize + threadIdx.x] = __float2half(value / sum);
}

__global__ void FillHalves(__half* elements, uint64_t count, uint64_t seed, float factor) {
  const uint64_t stride = static_cast<uint64_t>(gridDim.x) * blockDim.x * 8;
  for (uint64_t i = (static_cast<uint64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * 8; i < count; i += stride) {
    alignas(16) __half eight[8];
    for (int j = 0; j < 8; ++j) eight[j] = __float2half(factor * ValueAt(i + j, seed));
    *reinterpret_cast<uint4*>(elements + i) = *reinterpret_cast<const uint4*>(eight);
  }
}

__global__ void ReadMemory(const uint4* memory, uint64_t count, unsigned* sink) {
  unsigned mixed = 0;
  const uint64_t stride = static_cast<uint64_t>(gridDim.x) * blockDim.x;
#pragma unroll 8
  for (uint64_t i = static_cast<uint64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += stride) {
    const uint4 four = memory[i];
    mixed ^= four.x ^ four.y ^ four.z ^ four.w;
  }
  if (mixed == 0x9e3779b9u) *sink = mixed;  // nearly never, but the compiler cannot know
}

// What follows runs on the simulator only: the same arithmetic in plain loops, on the same bytes.

template <typename T>
std::vector<T> ReadOnHost(const UvmsimLaunch* launch, const T* from, size_t count) {
  const auto* view = static_cast<const T*>(uvmsim_access(launch, from, count * sizeof(T), UVMSIM_READ));
  return view == nullptr ? std::vector<T>() : std::vector<T>(view, view + count);
}

// The rows of a partition, [token][kHeadSize].
std::vector<float> ReadTileOnHost(const UvmsimLaunch* launch, const Attention& attention, const __half* pool,
                                  int sequence, int kv_head, int partition) {
  std::vector<float> tile;
  const int block_count = kTileTokens / attention.block_tokens;
  for (int i = 0; i < block_count; ++i) {
    const int index = partition * block_count + i;
    int block = BlockWithoutTable(attention, sequence, index);
    if (attention.lookup == Lookup::kTable) {
      const auto entry = ReadOnHost(launch, attention.table + sequence * attention.blocks_per_sequence() + index, 1);
      if (entry.empty()) return {};
      block = entry[0];
    }
    for (const __half element : ReadOnHost(launch, pool + ElementOf(attention, block, kv_head, 0),
                                           static_cast<size_t>(attention.block_tokens) * kHeadSize)) {
      tile.push_back(__half2float(element));
    }
  }
  return tile;
}

void AttendOnHost(const UvmsimLaunch* launch) {
  const Attention attention = UvmsimArgument<Attention>(launch, 0);
  for (int row = 0; row < attention.sequences * attention.kv_heads; ++row) {
    const int sequence = row / attention.kv_heads;
    const int kv_head = row % attention.kv_heads;
    const auto query =
        ReadOnHost(launch, attention.query + static_cast<size_t>(row) * kGroup * kHeadSize, kGroup * kHeadSize);
    for (int partition = 0; partition < attention.partitions(); ++partition) {
      const auto keys = ReadTileOnHost(launch, attention, attention.keys, sequence, kv_head, partition);
      const auto values = ReadTileOnHost(launch, attention, attention.values, sequence, kv_head, partition);
      if (query.empty() || keys.size() != kTileTokens * kHeadSize || values.size() != keys.size()) return;
      std::vector<float> out(kGroup * kHeadSize);
      std::vector<float2> stats(kGroup);
      for (int head = 0; head < kGroup; ++head) {
        float scores[kTileTokens];
        float largest = -INFINITY;
        for (int token = 0; token < kTileTokens; ++token) {
          float score = 0;
          for (int d = 0; d < kHeadSize; ++d) {
            score += __half2float(query[head * kHeadSize + d]) * keys[token * kHeadSize + d];
          }
          scores[token] = score / std::sqrt(static_cast<float>(kHeadSize));
          largest = std::max(largest, scores[token]);
        }
        float sum = 0;
        for (int token = 0; token < kTileTokens; ++token) {
          const float weight = std::exp(scores[token] - largest);
          sum += weight;
          for (int d = 0; d < kHeadSize; ++d) out[head * kHeadSize + d] += weight * values[token * kHeadSize + d];
        }
        stats[head] = {largest, sum};
      }
      const size_t at = (static_cast<size_t>(row) * attention.partitions() + partition) * kGroup;
      void* view = uvmsim_access(launch, attention.partial + at * kHeadSize, out.size() * sizeof(float), UVMSIM_WRITE);
      if (view == nullptr) return;
      std::copy(out.begin(), out.end(), static_cast<float*>(view));
      view = uvmsim_access(launch, attention.partial_weights + at, kGroup * sizeof(float2), UVMSIM_WRITE);
      if (view == nullptr) return;
      std::copy(stats.begin(), stats.end(), static_cast<float2*>(view));
    }
  }
}

void CombineOnHost(const UvmsimLaunch* launch) {
  const Attention attention = UvmsimArgument<Attention>(launch, 0);
  const int partitions = attention.partitions();
  for (int row = 0; row < attention.sequences * attention.kv_heads; ++row) {
    const size_t first = static_cast<size_t>(row) * partitions * kGroup;
    std::vector<float2> stats = ReadOnHost(launch, attention.partial_weights + first, partitions * kGroup);
    std::vector<double> value(kGroup * kHeadSize);
    std::vector<double> sum(kGroup);
    for (int p = 0; p < partitions; ++p) {
      const auto partial = ReadOnHost(launch, attention.partial + (first + p * kGroup) * kHeadSize, kGroup * kHeadSize);
      if (stats.empty() || partial.empty()) return;
      for (int head = 0; head < kGroup; ++head) {
        float largest = -INFINITY;
        for (int q = 0; q < partitions; ++q) largest = std::max(largest, stats[q * kGroup + head].x);
        const double factor = std::exp(stats[p * kGroup + head].x - largest);
        sum[head] += factor * stats[p * kGroup + head].y;
        for (int d = 0; d < kHeadSize; ++d) value[head * kHeadSize + d] += factor * partial[head * kHeadSize + d];
      }
    }
    auto* const out =
        static_cast<__half*>(uvmsim_access(launch, attention.output + static_cast<size_t>(row) * kGroup * kHeadSize,
                                           kGroup * kHeadSize * sizeof(__half), UVMSIM_WRITE));
    if (out == nullptr) return;
    for (int i = 0; i < kGroup * kHeadSize; ++i) {
      out[i] = __float2half(static_cast<float>(value[i] / sum[i / kHeadSize]));
    }
  }
}

void FillOnHost(const UvmsimLaunch* launch) {
  const uint64_t seed = UvmsimArgument<uint64_t>(launch, 2);
  const float factor = UvmsimArgument<float>(launch, 3);
  UvmsimForEachSpan(launch, UvmsimArgument<__half*>(launch, 0), UvmsimArgument<uint64_t>(launch, 1), UVMSIM_WRITE,
                    [&](__half* span, size_t count, size_t offset) {
                      for (size_t i = 0; i < count; ++i) span[i] = __float2half(factor * ValueAt(offset + i, seed));
                    });
}

void ReadMemoryOnHost(const UvmsimLaunch* launch) {
  UvmsimForEachSpan(launch, UvmsimArgument<const uint4*>(launch, 0), UvmsimArgument<uint64_t>(launch, 1), UVMSIM_READ,
                    [](const uint4*, size_t, size_t) {});
}

UVMSIM_REGISTER(AttendToPartition<2>, AttendOnHost);
UVMSIM_REGISTER(AttendToPartition<4>, AttendOnHost);
UVMSIM_REGISTER(AttendToPartition<8>, AttendOnHost);
UVMSIM_REGISTER(AttendToPartition<16>, AttendOnHost);
UVMSIM_REGISTER(CombinePartitions, CombineOnHost);
UVMSIM_REGISTER(FillHalves, FillOnHost);
UVMSIM_REGISTER(ReadMemory, ReadMemoryOnHost);

using Kernel = void (*)(Attention);

Kernel KernelFor(int value_load_bytes) {
  switch (value_load_bytes) {
    case 2:
      return AttendToPartition<2>;
    case 4:
      return AttendToPartition<4>;
    case 8:
      return AttendToPartition<8>;
    default:
      return AttendToPartition<16>;
  }
}

}  // namespace

void PrepareKernels() {
  for (const int bytes : {2, 4, 8, 16}) {
    Check(cudaFuncSetAttribute(KernelFor(bytes), cudaFuncAttributeMaxDynamicSharedMemorySize, sizeof(SharedTiles)),
          "asking for " + std::to_string(sizeof(SharedTiles)) + " bytes of shared memory");
  }
}

void EnqueueAttention(const Attention& attention, int value_load_bytes, cudaStream_t stream) {
  const dim3 partitions(attention.partitions(), attention.kv_heads, attention.sequences);
  KernelFor(value_load_bytes)<<<partitions, kThreads, sizeof(SharedTiles), stream>>>(attention);
  Check(cudaGetLastError(), "launching AttendToPartition");
  const dim3 heads(attention.kv_heads * kGroup, attention.sequences);
  CombinePartitions<<<heads, kHeadSize, 0, stream>>>(attention);
  Check(cudaGetLastError(), "launching CombinePartitions");
}

void EnqueueFill(__half* elements, uint64_t count, uint64_t seed, float factor, cudaStream_t stream) {
  FillHalves<<<1024, 256, 0, stream>>>(elements, count, seed, factor);
  Check(cudaGetLastError(), "launching FillHalves");
}

void EnqueueRead(const void* memory, uint64_t bytes, unsigned* sink, cudaStream_t stream) {
  ReadMemory<<<2048, 256, 0, stream>>>(static_cast<const uint4*>(memory), bytes / sizeof(uint4), sink);
  Check(cudaGetLastError(), "launching ReadMemory");
}

}  // namespace paged
