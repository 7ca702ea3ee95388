// The driver calls that make a change, and their records.
//
// They go to libcuda's own functions, past every hook. They run in the host's thread, in the host's context, and must
// leave no trace there: results are looked at here alone, and a capture that is under way in any thread is not
// disturbed, because the thread's capture mode is relaxed meanwhile. Each call is an event of the trace under a name of
// its own, "uvmtrace: cuMemPrefetchAsync", so that no report takes it for the program's.
#pragma once

#include <cstdint>

#include "preload/calls/cuda_api.h"
#include "preload/calls/functions.h"

namespace uvmtrace {

// Lets the calls below run while a stream is captured.
class RelaxedCapture {
 public:
  RelaxedCapture();
  ~RelaxedCapture();
  RelaxedCapture(const RelaxedCapture&) = delete;
  RelaxedCapture& operator=(const RelaxedCapture&) = delete;

 private:
  CUstreamCaptureMode mode_ = CU_STREAM_CAPTURE_MODE_RELAXED;
  bool exchanged_ = false;
};

// Whether work may be enqueued: not while the stream is captured, and not if that cannot be told.
bool MayEnqueue(CUstream stream);

// The device of the thread's context; kUnknownDevice: it has none, or the device cannot fault.
int32_t ContextDevice();
// Of the device of the thread's context. False: not known.
bool FreeDeviceBytes(uint64_t* bytes);

// `device` may be kCpu.
CUresult ApplyPrefetch(uint64_t address, uint64_t bytes, int32_t device, CUstream stream);
CUresult ApplyAdvice(uint64_t address, uint64_t bytes, CUmem_advise advice, int32_t device);

// The parameters of a kernel, one after the other: sizes in bytes. False: there is no such parameter.
bool ParameterBytes(CUfunction function, size_t index, size_t* bytes);
// Whether the driver can be asked: it can from CUDA 12.4 on.
bool KnowsParameters();
// Null: not known.
const char* KernelName(CUfunction function);

// Streams and events for what runs beside the host's streams. Null: none could be made.
CUstream MakeSideStream();
CUevent MakeSideEvent();
bool RecordSideEvent(CUevent event, CUstream stream);
bool WaitForSideEvent(CUstream stream, CUevent event);

}  // namespace uvmtrace
