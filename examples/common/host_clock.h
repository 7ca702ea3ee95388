// The host's clock, for what only the host can time, such as a call.
#pragma once

namespace examples {

// Seconds on the calling thread's clock. On the simulator that is the clock of the machine that is simulated.
double HostSeconds();

}  // namespace examples
