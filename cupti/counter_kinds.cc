// See counter_kinds.h.
#include "cupti/counter_kinds.h"

#include <stdio.h>

namespace uvmtrace {
namespace {

struct Cure {
  int error;
  const char* name;
  const char* words;
};

// From the CUPTI headers and release notes of CUDA 12.0 to 13.4. Numbers, because older headers lack the newer names.
constexpr Cure kCures[] = {
    {1, "CUPTI_ERROR_INVALID_PARAMETER", "this libcupti does not know this kind of record; a newer one may"},
    {7, "CUPTI_ERROR_INVALID_OPERATION",
     "another CUPTI client of this process has enabled these records already; run without it"},
    {8, "CUPTI_ERROR_OUT_OF_MEMORY", "CUPTI has not enough memory"},
    {14, "CUPTI_ERROR_NOT_COMPATIBLE",
     "another CUPTI client of this process uses CUPTI in a way that excludes this; run without it"},
    {15, "CUPTI_ERROR_NOT_INITIALIZED",
     "CUPTI could not start; see that the NVIDIA driver is loaded and at least as new as libcupti"},
    {21, "CUPTI_ERROR_INVALID_KIND", "this libcupti does not know this kind of record; a newer one may"},
    {27, "CUPTI_ERROR_NOT_SUPPORTED", "not supported by this driver or device"},
    {28, "CUPTI_ERROR_UM_PROFILING_NOT_SUPPORTED",
     "NVIDIA supports no unified-memory records on this operating system or processor architecture; the "
     "driver's threads are still sampled"},
    {29, "CUPTI_ERROR_UM_PROFILING_NOT_SUPPORTED_ON_DEVICE",
     "this GPU gives no unified-memory records; the driver's threads are still sampled"},
    {30, "CUPTI_ERROR_UM_PROFILING_NOT_SUPPORTED_ON_NON_P2P_DEVICES",
     "two of the visible GPUs cannot reach each other peer to peer; show the program only GPUs that can, "
     "for example CUDA_VISIBLE_DEVICES=0"},
    {31, "CUPTI_ERROR_UM_PROFILING_NOT_SUPPORTED_WITH_MPS",
     "not possible under the Multi-Process Service with this CUDA version; run without MPS"},
    {33, "CUPTI_ERROR_VIRTUALIZED_DEVICE_NOT_SUPPORTED",
     "not possible on this virtual GPU; use a passed-through GPU or ask for profiling to be allowed"},
    {35, "CUPTI_ERROR_INSUFFICIENT_PRIVILEGES",
     "the driver allows profiling only to administrators; load it with "
     "NVreg_RestrictProfilingToAdminUsers=0, or run with CAP_SYS_ADMIN"},
    {36, "CUPTI_ERROR_OLD_PROFILER_API_INITIALIZED",
     "another profiler of this process uses CUPTI's old interface; run without it"},
    {39, "CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED",
     "another tool (Nsight, cuda-gdb, a profiler) holds CUPTI; run without it"},
    {40, "CUPTI_ERROR_VIRTUALIZED_DEVICE_INSUFFICIENT_PRIVILEGES",
     "profiling is switched off for this virtual GPU; its administrator can allow it"},
    {41, "CUPTI_ERROR_CONFIDENTIAL_COMPUTING_NOT_SUPPORTED", "not possible with confidential computing switched on"},
    {42, "CUPTI_ERROR_CMP_DEVICE_NOT_SUPPORTED", "this GPU is a mining device, which NVIDIA does not let profile"},
    {999, "CUPTI_ERROR_UNKNOWN",
     "an error inside CUPTI; see that nvidia-smi lists a GPU and that the driver is at least as new as libcupti"},
};

}  // namespace

void DescribeCuptiError(CUptiResult error, char* text, size_t text_size) {
  for (const Cure& cure : kCures) {
    if (cure.error != static_cast<int>(error)) continue;
    snprintf(text, text_size, "CUPTI error %d (%s): %s", cure.error, cure.name, cure.words);
    return;
  }
  snprintf(text, text_size, "CUPTI error %d: see CUptiResult in cupti_result.h", static_cast<int>(error));
}

}  // namespace uvmtrace
