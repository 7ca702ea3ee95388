#include "examples/common/program.h"
#include "examples/kv_fragmentation/token_kernel.h"
#include "sim/include/uvmsim.h"

namespace fragmentation {
namespace {

using examples::Check;

// One thread block for a token of a range: blockIdx.x counts tokens, blockIdx.y ranges.
__global__ void VisitTokens(View view, uint64_t request, int first, bool write, unsigned long long* wrong) {
  const int token = first + blockIdx.x;
  const int range = blockIdx.y;
  const int block = view.table != nullptr ? view.table[token / view.block_tokens] : 0;
  auto* const words = reinterpret_cast<uint64_t*>(TokenAddress(view, block, range, token % view.block_tokens));
  const uint64_t expected = TokenWord(request, range, token);
  for (int i = threadIdx.x; i < view.token_bytes / 8; i += blockDim.x) {
    if (write) {
      words[i] = expected;
    } else if (words[i] != expected) {
      atomicAdd(wrong, 1ull);
    }
  }
}

void VisitTokensOnHost(const UvmsimLaunch* launch) {
  const View view = UvmsimArgument<View>(launch, 0);
  const auto request = UvmsimArgument<uint64_t>(launch, 1);
  const auto first = UvmsimArgument<int>(launch, 2);
  const auto write = UvmsimArgument<bool>(launch, 3);
  auto* const wrong = UvmsimArgument<unsigned long long*>(launch, 4);
  unsigned long long found = 0;
  for (unsigned range = 0; range < launch->grid.y; ++range) {
    for (unsigned i = 0; i < launch->grid.x; ++i) {
      const int token = first + static_cast<int>(i);
      int block = 0;
      if (view.table != nullptr) {
        const void* entry = uvmsim_access(launch, view.table + token / view.block_tokens, sizeof(int), UVMSIM_READ);
        if (entry == nullptr) return;
        block = *static_cast<const int*>(entry);
      }
      auto* const words = static_cast<uint64_t*>(
          uvmsim_access(launch, TokenAddress(view, block, static_cast<int>(range), token % view.block_tokens),
                        view.token_bytes, write ? UVMSIM_WRITE : UVMSIM_READ));
      if (words == nullptr) return;
      const uint64_t expected = TokenWord(request, static_cast<int>(range), token);
      for (int word = 0; word < view.token_bytes / 8; ++word) {
        if (write) {
          words[word] = expected;
        } else {
          found += words[word] != expected;
        }
      }
    }
  }
  if (found == 0) return;
  auto* const total = static_cast<unsigned long long*>(uvmsim_access(launch, wrong, sizeof(*wrong), UVMSIM_READ_WRITE));
  if (total != nullptr) *total += found;
}

UVMSIM_REGISTER(VisitTokens, VisitTokensOnHost);

}  // namespace

Tokens::Tokens() {
  void* address = nullptr;
  Check(cudaMalloc(&address, sizeof(unsigned long long)), "cudaMalloc of the count of wrong words");
  wrong_.reset(address);
  Check(cudaMemset(address, 0, sizeof(unsigned long long)), "cudaMemset of the count of wrong words");
  Check(cudaDeviceSynchronize(),
        "cudaMemset of the count of wrong words");  // the kernels' stream would not wait for it
}

void Tokens::Write(const View& view, uint64_t request, int first, int last, cudaStream_t stream) {
  Launch(view, request, first, last, true, stream);
}
void Tokens::Verify(const View& view, uint64_t request, int tokens, cudaStream_t stream) {
  Launch(view, request, 0, tokens, false, stream);
}

void Tokens::Launch(const View& view, uint64_t request, int first, int last, bool write, cudaStream_t stream) {
  if (first == last) return;
  VisitTokens<<<dim3(last - first, view.ranges), 128, 0, stream>>>(view, request, first, write,
                                                                   static_cast<unsigned long long*>(wrong_.get()));
  Check(cudaGetLastError(), "launching VisitTokens");
}

unsigned long long Tokens::WrongWords(cudaStream_t stream) {
  unsigned long long wrong = 0;
  Check(cudaStreamSynchronize(stream), "waiting for the tokens");
  Check(cudaMemcpy(&wrong, wrong_.get(), sizeof(wrong), cudaMemcpyDeviceToHost), "the count of wrong words");
  return wrong;
}

}  // namespace fragmentation
