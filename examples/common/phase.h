// A phase of an experiment: named for profilers (NVTX), shown on a terminal, and timed on the GPU's clock.
#pragma once

#include <cuda_runtime_api.h>

#include <string>

namespace examples {

// Names what this thread does, for Nsight Systems and for the report, until the end of the scope. On a terminal the
// name also stands in a line of its own on stderr, which the next phase replaces.
class PhaseRange {
 public:
  explicit PhaseRange(const std::string& name);
  ~PhaseRange();
  PhaseRange(const PhaseRange&) = delete;
  PhaseRange& operator=(const PhaseRange&) = delete;
};

// Seconds between two points of a stream, by CUDA events: the host's time too, where the stream waited for the host.
// Events, and not the host's clock, because the simulator keeps a clock of its own.
class Stopwatch {
 public:
  explicit Stopwatch(cudaStream_t stream);
  ~Stopwatch();
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

  void Start();
  double Stop();  // waits for the stream

 private:
  cudaStream_t stream_;
  cudaEvent_t start_ = nullptr;
  cudaEvent_t stop_ = nullptr;
};

// A stream or an event that goes with its owner.
class Stream {
 public:
  Stream();
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

class Event {
 public:
  explicit Event(bool timed = false);
  ~Event();
  Event(Event&& other) noexcept : event_(other.event_) { other.event_ = nullptr; }
  Event& operator=(Event&&) = delete;
  cudaEvent_t get() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

double SecondsBetween(const Event& start, const Event& stop);

}  // namespace examples
