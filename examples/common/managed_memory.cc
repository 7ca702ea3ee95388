#include "examples/common/managed_memory.h"

#include "examples/common/program.h"

namespace examples {

#if CUDART_VERSION >= 13000
namespace {
cudaMemLocation Location(int device) {
  cudaMemLocation location{};
  location.type = device == kHost ? cudaMemLocationTypeHost : cudaMemLocationTypeDevice;
  location.id = device == kHost ? 0 : device;
  return location;
}
}  // namespace
#endif

void Prefetch(const void* address, size_t bytes, int device, cudaStream_t stream) {
#if CUDART_VERSION >= 13000
  Check(cudaMemPrefetchAsync(address, bytes, Location(device), 0, stream), "cudaMemPrefetchAsync");
#else
  Check(cudaMemPrefetchAsync(address, bytes, device, stream), "cudaMemPrefetchAsync");
#endif
}

void Advise(const void* address, size_t bytes, cudaMemoryAdvise advice, int device) {
#if CUDART_VERSION >= 13000
  Check(cudaMemAdvise(address, bytes, advice, Location(device)), "cudaMemAdvise");
#else
  Check(cudaMemAdvise(address, bytes, advice, device), "cudaMemAdvise");
#endif
}

}  // namespace examples
