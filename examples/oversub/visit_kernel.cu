// The kernel, and beside it the same work for the simulator, which cannot run GPU code.
#include "examples/common/program.h"
#include "examples/oversub/visit_kernel.h"
#include "sim/include/uvmsim.h"

namespace oversub {
namespace {

using examples::Check;

__device__ void RecordMismatch(CheckResult* result, uint64_t chunk, uint64_t index, uint64_t expected, uint64_t found) {
  if (atomicAdd(&result->mismatches, 1ull) != 0) return;
  result->chunk = chunk;
  result->index = index;
  result->expected = expected;
  result->found = found;
}

// One warp after the other takes the next pieces of a page, and the grid goes from page to page in the given order.
__global__ void VisitChunk(uint64_t* words, size_t word_count, uint64_t chunk, uint64_t before, uint64_t after,
                           bool readonly, Pattern pattern, CheckResult* result) {
  constexpr size_t kPageWords = kPageBytes / sizeof(uint64_t);
  const size_t page_count = word_count / kPageWords;
  const size_t stride = static_cast<size_t>(gridDim.x) * blockDim.x;
  for (size_t at = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x; at < word_count; at += stride) {
    const size_t i = PageAtStep(pattern, at / kPageWords, page_count) * kPageWords + at % kPageWords;
    uint64_t expected = WordOfPattern(before, i);
    uint64_t found = words[i];
    if (found == expected && !readonly) {
      // Volatile: the write goes out and is fetched again, or the compiler would compare the register with itself.
      volatile uint64_t* word = &words[i];
      expected = WordOfPattern(after, i);
      *word = expected;
      found = *word;
    }
    if (found != expected) RecordMismatch(result, chunk, i, expected, found);
  }
}

void VisitChunkOnHost(const UvmsimLaunch* launch) {
  uint64_t* const words = UvmsimArgument<uint64_t*>(launch, 0);
  const size_t word_count = UvmsimArgument<size_t>(launch, 1);
  const uint64_t chunk = UvmsimArgument<uint64_t>(launch, 2);
  const uint64_t before = UvmsimArgument<uint64_t>(launch, 3);
  const uint64_t after = UvmsimArgument<uint64_t>(launch, 4);
  const bool readonly = UvmsimArgument<bool>(launch, 5);
  const Pattern pattern = UvmsimArgument<Pattern>(launch, 6);
  CheckResult* const result = UvmsimArgument<CheckResult*>(launch, 7);

  CheckResult seen{};
  const int access = readonly ? UVMSIM_READ : UVMSIM_READ_WRITE;
  const auto visit = [&](uint64_t* span, size_t count, size_t offset) {
    for (size_t i = 0; i < count; ++i) {
      const uint64_t expected = WordOfPattern(before, offset + i);
      if (span[i] != expected) {
        if (seen.mismatches++ == 0) seen = {1, chunk, offset + i, expected, span[i]};
      } else if (!readonly) {
        span[i] = WordOfPattern(after, offset + i);
      }
    }
  };
  constexpr size_t kPageWords = kPageBytes / sizeof(uint64_t);
  if (pattern == Pattern::kStrided || pattern == Pattern::kRandom) {
    for (size_t step = 0; step < word_count / kPageWords; ++step) {
      const size_t first = PageAtStep(pattern, step, word_count / kPageWords) * kPageWords;
      void* const page = uvmsim_access(launch, words + first, kPageBytes, access);
      if (page == nullptr) return;
      visit(static_cast<uint64_t*>(page), kPageWords, first);
    }
  } else {
    UvmsimForEachSpan(launch, words, word_count, access, visit);
  }
  if (seen.mismatches == 0) return;
  // Only now: a view ends with the next access, so the result cannot be touched while a span is.
  auto* const view = static_cast<CheckResult*>(uvmsim_access(launch, result, sizeof(CheckResult), UVMSIM_READ_WRITE));
  if (view == nullptr) return;
  const unsigned long long earlier = view->mismatches;
  if (earlier == 0) *view = seen;
  view->mismatches = earlier + seen.mismatches;
}

UVMSIM_REGISTER(VisitChunk, VisitChunkOnHost);

}  // namespace

Visitor::Visitor() {
  Check(cudaStreamCreate(&stream_), "cudaStreamCreate");
  void* result = nullptr;
  Check(cudaMalloc(&result, sizeof(CheckResult)), "cudaMalloc of the check result");
  result_.reset(result);
  Check(cudaMemset(result, 0, sizeof(CheckResult)), "cudaMemset of the check result");
  // An empty launch loads the kernel, whose code takes device memory of its own, before anybody asks how much is free.
  Enqueue(nullptr, 0, 0, 0, 0, true, Pattern::kSequential);
  Check(cudaStreamSynchronize(stream_), "the first, empty launch");
}

Visitor::~Visitor() { cudaStreamDestroy(stream_); }

void Visitor::Enqueue(uint64_t* words, size_t word_count, uint64_t chunk, uint64_t before, uint64_t after,
                      bool readonly, Pattern pattern) {
  constexpr int kThreads = 256;
  constexpr int kBlocks = 1024;
  VisitChunk<<<kBlocks, kThreads, 0, stream_>>>(words, word_count, chunk, before, after, readonly, pattern,
                                                static_cast<CheckResult*>(result_.get()));
  Check(cudaGetLastError(), "launching VisitChunk on chunk " + std::to_string(chunk));
}

CheckResult Visitor::Read() {
  CheckResult result{};
  Check(cudaStreamSynchronize(stream_), "waiting for the visits");
  Check(cudaMemcpy(&result, result_.get(), sizeof(result), cudaMemcpyDeviceToHost), "reading the check result");
  return result;
}

}  // namespace oversub
