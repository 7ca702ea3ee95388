#include "examples/common/phase.h"

#include <nvtx3/nvToolsExt.h>
#include <unistd.h>

#include <cstdio>

#include "examples/common/program.h"

namespace examples {

PhaseRange::PhaseRange(const std::string& name) {
  nvtxRangePushA(name.c_str());
  static const bool terminal = isatty(STDERR_FILENO) == 1;
  if (terminal) std::fprintf(stderr, "\r\033[K%s", name.c_str());
}

PhaseRange::~PhaseRange() {
  nvtxRangePop();
  static const bool terminal = isatty(STDERR_FILENO) == 1;
  if (terminal) std::fprintf(stderr, "\r\033[K");
}

Stopwatch::Stopwatch(cudaStream_t stream) : stream_(stream) {
  Check(cudaEventCreate(&start_), "cudaEventCreate");
  Check(cudaEventCreate(&stop_), "cudaEventCreate");
}

Stopwatch::~Stopwatch() {
  cudaEventDestroy(start_);
  cudaEventDestroy(stop_);
}

void Stopwatch::Start() { Check(cudaEventRecord(start_, stream_), "cudaEventRecord"); }

double Stopwatch::Stop() {
  Check(cudaEventRecord(stop_, stream_), "cudaEventRecord");
  Check(cudaEventSynchronize(stop_), "waiting for the end of a phase");
  float milliseconds = 0;
  Check(cudaEventElapsedTime(&milliseconds, start_, stop_), "cudaEventElapsedTime");
  return milliseconds / 1e3;
}

// Does not wait for the legacy default stream: an example says itself what waits for what.
Stream::Stream() { Check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags"); }
Stream::~Stream() { cudaStreamDestroy(stream_); }

Event::Event(bool timed) {
  Check(cudaEventCreateWithFlags(&event_, timed ? cudaEventDefault : cudaEventDisableTiming),
        "cudaEventCreateWithFlags");
}
Event::~Event() {
  if (event_ != nullptr) cudaEventDestroy(event_);
}

double SecondsBetween(const Event& start, const Event& stop) {
  float milliseconds = 0;
  Check(cudaEventElapsedTime(&milliseconds, start.get(), stop.get()), "cudaEventElapsedTime");
  return milliseconds / 1e3;
}

}  // namespace examples
