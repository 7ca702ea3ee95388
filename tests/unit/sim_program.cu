// An ordinary CUDA program, built by nvcc with the shared runtime, that the simulator's tests run in many ways:
// sim_program <case>. Exits 0 if all is as it should be; says what is not. Here are the kernels that several cases
// launch, each with the model of what it does; the cases are in the other sim_program_*.cu, by what they are about.
#include <cstdio>

#include "sim/include/uvmsim.h"
#include "tests/unit/sim_check.h"
#include "tests/unit/sim_program.h"

namespace uvmsim::tests {
namespace {

__global__ void Add(int* data, size_t count, int value) {
  const size_t i = blockIdx.x * static_cast<size_t>(blockDim.x) + threadIdx.x;
  if (i < count) data[i] += value;
}
void AddOnHost(const UvmsimLaunch* launch) {
  int* data = UvmsimArgument<int*>(launch, 0);
  const size_t count = UvmsimArgument<size_t>(launch, 1);
  const int value = UvmsimArgument<int>(launch, 2);
  UvmsimForEachSpan(launch, data, count, UVMSIM_READ_WRITE, [&](int* span, size_t n, size_t) {
    for (size_t i = 0; i < n; ++i) span[i] += value;
  });
}
UVMSIM_REGISTER(Add, AddOnHost);

__global__ void CheckAndBump(int* data, size_t count, int expected, unsigned long long* wrong) {
  const size_t i = blockIdx.x * static_cast<size_t>(blockDim.x) + threadIdx.x;
  if (i >= count) return;
  if (data[i] != expected) atomicAdd(wrong, 1ull);
  data[i] += 1;
}
void CheckAndBumpOnHost(const UvmsimLaunch* launch) {
  int* data = UvmsimArgument<int*>(launch, 0);
  const size_t count = UvmsimArgument<size_t>(launch, 1);
  const int expected = UvmsimArgument<int>(launch, 2);
  auto* wrong = UvmsimArgument<unsigned long long*>(launch, 3);
  unsigned long long found = 0;
  UvmsimForEachSpan(launch, data, count, UVMSIM_READ_WRITE, [&](int* span, size_t n, size_t) {
    for (size_t i = 0; i < n; ++i) {
      found += span[i] != expected;
      span[i] += 1;
    }
  });
  auto* view = static_cast<unsigned long long*>(uvmsim_access(launch, wrong, sizeof *wrong, UVMSIM_READ_WRITE));
  if (view != nullptr) *view += found;
}
UVMSIM_REGISTER(CheckAndBump, CheckAndBumpOnHost);

__global__ void Forever(int* data, size_t count) {
  for (;;) data[clock64() % count] = 1;
}
void ForeverOnHost(const UvmsimLaunch* launch) {
  int* data = UvmsimArgument<int*>(launch, 0);
  const size_t count = UvmsimArgument<size_t>(launch, 1);
  for (;;) UvmsimForEachSpan(launch, data, count, UVMSIM_WRITE, [](int* span, size_t n, size_t) { span[n - 1] = 1; });
}
UVMSIM_REGISTER(Forever, ForeverOnHost);

// What the environment said.
void Profile() {
  cudaDeviceProp properties;
  CUDA(cudaGetDeviceProperties(&properties, 0));
  printf("%s %zu\n", properties.name, properties.totalGlobalMem);
}

Cases AllCases() {
  Cases all = {{"profile", Profile}};
  for (Cases part : {MemoryCases(), WorkCases(), ProcessCases(), CuptiCases(), ClockCases(), GpusCases()})
    all.merge(part);
  return all;
}

}  // namespace

cudaError_t TryLaunch(int* data, size_t count, int value, cudaStream_t stream) {
  Add<<<static_cast<unsigned>((count + 255) / 256), 256, 0, stream>>>(data, count, value);
  return cudaGetLastError();
}

void LaunchCheckAndBump(int* data, size_t count, int expected, unsigned long long* wrong) {
  CheckAndBump<<<static_cast<unsigned>((count + 255) / 256), 256>>>(data, count, expected, wrong);
  CUDA(cudaGetLastError());
}

void LaunchForever(int* data, size_t count) {
  Forever<<<1, 1>>>(data, count);
  CUDA(cudaGetLastError());
}

}  // namespace uvmsim::tests

int main(int argc, char** argv) {
  const uvmsim::tests::Cases cases = uvmsim::tests::AllCases();
  const auto found = argc == 2 ? cases.find(argv[1]) : cases.end();
  if (found == cases.end()) {
    fprintf(stderr, "usage: sim_program <case>\n");
    return 2;
  }
  found->second();
  return 0;
}
