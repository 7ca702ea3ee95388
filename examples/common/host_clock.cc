#include "examples/common/host_clock.h"

#include <chrono>

#include "sim/include/uvmsim.h"

namespace examples {

double HostSeconds() {
  const double simulated_ns = uvmsim_now_ns();
  if (simulated_ns >= 0) return simulated_ns / 1e9;
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace examples
