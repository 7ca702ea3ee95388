// The two kernels of the model without PyTorch (toy_backend.py), behind a C interface for ctypes: append tokens to a
// slot of the KV cache, and add up everything in the slots of a batch. Every function returns null or a message.
#include <cuda_runtime_api.h>
#include <nvtx3/nvToolsExt.h>

#include <cstdint>
#include <string>
#include <vector>

#include "sim/include/uvmsim.h"

#define TOY_EXPORT extern "C" __attribute__((visibility("default")))

namespace {

struct Batch {
  uint64_t slot[64];
  uint64_t tokens[64];
};

__global__ void AppendTokens(uint64_t* cache, uint64_t words_of_token, const uint64_t* first_words) {
  uint64_t* const token = cache + blockIdx.x * words_of_token;
  for (uint64_t i = threadIdx.x; i < words_of_token; i += blockDim.x) token[i] = first_words[blockIdx.x] + i;
}

// gridDim.y is the batch; the thread blocks of a row share a conversation.
__global__ void AttendToTokens(const uint64_t* cache, uint64_t words_of_slot, uint64_t words_of_token, Batch batch,
                               unsigned long long* sums) {
  const uint64_t* const words = cache + batch.slot[blockIdx.y] * words_of_slot;
  const uint64_t count = batch.tokens[blockIdx.y] * words_of_token;
  unsigned long long mine = 0;
  for (uint64_t i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) mine += words[i];
  for (int distance = 16; distance > 0; distance /= 2) mine += __shfl_xor_sync(0xffffffffu, mine, distance);
  if (threadIdx.x % 32 == 0) atomicAdd(&sums[blockIdx.y], mine);
}

void AppendOnHost(const UvmsimLaunch* launch) {
  auto* const cache = UvmsimArgument<uint64_t*>(launch, 0);
  const auto words = UvmsimArgument<uint64_t>(launch, 1);
  const auto* const from = UvmsimArgument<const uint64_t*>(launch, 2);
  const void* view = uvmsim_access(launch, from, launch->grid.x * sizeof(uint64_t), UVMSIM_READ);
  if (view == nullptr) return;
  const std::vector<uint64_t> first_words(static_cast<const uint64_t*>(view),
                                          static_cast<const uint64_t*>(view) + launch->grid.x);
  UvmsimForEachSpan(launch, cache, launch->grid.x * words, UVMSIM_WRITE, [&](uint64_t* span, size_t count, size_t at) {
    for (size_t i = 0; i < count; ++i) span[i] = first_words[(at + i) / words] + (at + i) % words;
  });
}

void AttendOnHost(const UvmsimLaunch* launch) {
  const auto* const cache = UvmsimArgument<const uint64_t*>(launch, 0);
  const auto words_of_slot = UvmsimArgument<uint64_t>(launch, 1);
  const auto words_of_token = UvmsimArgument<uint64_t>(launch, 2);
  const auto batch = UvmsimArgument<Batch>(launch, 3);
  auto* const sums = UvmsimArgument<unsigned long long*>(launch, 4);
  for (unsigned row = 0; row < launch->grid.y; ++row) {
    unsigned long long sum = 0;
    UvmsimForEachSpan(launch, cache + batch.slot[row] * words_of_slot, batch.tokens[row] * words_of_token, UVMSIM_READ,
                      [&](const uint64_t* span, size_t count, size_t) {
                        for (size_t i = 0; i < count; ++i) sum += span[i];
                      });
    auto* const total =
        static_cast<unsigned long long*>(uvmsim_access(launch, sums + row, sizeof(*sums), UVMSIM_READ_WRITE));
    if (total == nullptr) return;
    *total += sum;
  }
}

UVMSIM_REGISTER(AppendTokens, AppendOnHost);
UVMSIM_REGISTER(AttendToTokens, AttendOnHost);

enum Kind { kManaged = 0, kPinned = 1, kDevice = 2 };

struct Model {
  Kind kind = kManaged;
  uint64_t* cache = nullptr;  // where kernels find it
  uint64_t* staging = nullptr;
  unsigned long long* sums = nullptr;
  uint64_t max_tokens = 0;
  uint64_t words_of_token = 0;
  cudaStream_t stream = nullptr;
  std::string message;

  uint64_t words_of_slot() const { return max_tokens * words_of_token; }
};
Model model;

struct Range {  // for profilers
  explicit Range(const char* name) { nvtxRangePushA(name); }
  ~Range() { nvtxRangePop(); }
};

const char* Failed(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return nullptr;
  model.message = std::string(what) + ": " + cudaGetErrorString(error);
  return model.message.c_str();
}

#define TOY_TRY(call)                                       \
  do {                                                      \
    const char* const failed_message = Failed(call, #call); \
    if (failed_message != nullptr) return failed_message;   \
  } while (false)

}  // namespace

TOY_EXPORT const char* toy_open(int kind, uint64_t slots, uint64_t max_tokens, uint64_t token_bytes) {
  model.kind = static_cast<Kind>(kind);
  model.max_tokens = max_tokens;
  model.words_of_token = token_bytes / sizeof(uint64_t);
  const size_t bytes = slots * max_tokens * token_bytes;
  void* address = nullptr;
  if (kind == kManaged) {
    TOY_TRY(cudaMallocManaged(&address, bytes, cudaMemAttachGlobal));
  } else if (kind == kPinned) {
    TOY_TRY(cudaHostAlloc(&address, bytes, cudaHostAllocMapped));
    TOY_TRY(cudaHostGetDevicePointer(&address, address, 0));
  } else {
    TOY_TRY(cudaMalloc(&address, bytes));
  }
  model.cache = static_cast<uint64_t*>(address);
  TOY_TRY(cudaMalloc(&address, max_tokens * sizeof(uint64_t)));
  model.staging = static_cast<uint64_t*>(address);
  TOY_TRY(cudaMalloc(&address, sizeof(Batch::slot)));
  model.sums = static_cast<unsigned long long*>(address);
  TOY_TRY(cudaStreamCreate(&model.stream));
  return nullptr;
}

TOY_EXPORT const char* toy_append(uint64_t slot, uint64_t start, const uint64_t* first_words, uint64_t count) {
  const Range range("serve: append");
  TOY_TRY(cudaMemcpyAsync(model.staging, first_words, count * sizeof(uint64_t), cudaMemcpyHostToDevice, model.stream));
  AppendTokens<<<static_cast<unsigned>(count), 128, 0, model.stream>>>(
      model.cache + slot * model.words_of_slot() + start * model.words_of_token, model.words_of_token, model.staging);
  TOY_TRY(cudaGetLastError());
  // The staging buffer and the caller's words may be used again.
  TOY_TRY(cudaStreamSynchronize(model.stream));
  return nullptr;
}

TOY_EXPORT const char* toy_attend(const uint64_t* slots, const uint64_t* tokens, uint64_t* sums, uint64_t count) {
  const Range range("serve: attend");
  Batch batch{};
  if (count > sizeof(batch.slot) / sizeof(batch.slot[0])) return "toy_attend: more than 64 conversations in a batch";
  for (uint64_t i = 0; i < count; ++i) {
    batch.slot[i] = slots[i];
    batch.tokens[i] = tokens[i];
  }
  TOY_TRY(cudaMemsetAsync(model.sums, 0, count * sizeof(uint64_t), model.stream));
  AttendToTokens<<<dim3(16, static_cast<unsigned>(count)), 256, 0, model.stream>>>(
      model.cache, model.words_of_slot(), model.words_of_token, batch, model.sums);
  TOY_TRY(cudaGetLastError());
  TOY_TRY(cudaMemcpyAsync(sums, model.sums, count * sizeof(uint64_t), cudaMemcpyDeviceToHost, model.stream));
  TOY_TRY(cudaStreamSynchronize(model.stream));
  return nullptr;
}

// `device` is 0, or -1 for the CPU.
TOY_EXPORT const char* toy_prefetch(uint64_t slot, uint64_t tokens, int device) {
  const Range range("serve: move");
  if (tokens == 0) return nullptr;
  const void* const from = model.cache + slot * model.words_of_slot();
  const size_t bytes = tokens * model.words_of_token * sizeof(uint64_t);
#if CUDART_VERSION >= 13000
  cudaMemLocation location{};
  location.type = device < 0 ? cudaMemLocationTypeHost : cudaMemLocationTypeDevice;
  TOY_TRY(cudaMemPrefetchAsync(from, bytes, location, 0, model.stream));
#else
  TOY_TRY(cudaMemPrefetchAsync(from, bytes, device < 0 ? cudaCpuDeviceId : 0, model.stream));
#endif
  TOY_TRY(cudaStreamSynchronize(model.stream));
  return nullptr;
}

TOY_EXPORT uint64_t toy_free_bytes() {
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  return cudaMemGetInfo(&free_bytes, &total_bytes) == cudaSuccess ? free_bytes : 0;
}

TOY_EXPORT void toy_close() {
  if (model.kind == kPinned) {
    cudaFreeHost(model.cache);
  } else {
    cudaFree(model.cache);
  }
  cudaFree(model.staging);
  cudaFree(model.sums);
  cudaStreamDestroy(model.stream);
  model = Model();
}
