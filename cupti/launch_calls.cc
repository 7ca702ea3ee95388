// See launch_calls.h.
//
// CUPTI has two ways to record some calls alone. To switch single calls on works only if it is done before the context
// exists: with CUPTI 13.0 on Ampere and Hopper, calls that were switched on later gave no record, although each switch
// was answered with success. To switch the whole kind on and all other calls off works at any time.
#include "cupti/launch_calls.h"

#include <algorithm>
#include <iterator>

namespace uvmtrace {
namespace {

constexpr CUpti_CallbackId kDriverLaunches[] = {
    CUPTI_DRIVER_TRACE_CBID_cuLaunchKernel,
    CUPTI_DRIVER_TRACE_CBID_cuLaunchKernel_ptsz,
    CUPTI_DRIVER_TRACE_CBID_cuLaunchKernelEx,
    CUPTI_DRIVER_TRACE_CBID_cuLaunchKernelEx_ptsz,
    CUPTI_DRIVER_TRACE_CBID_cuLaunchCooperativeKernel,
    CUPTI_DRIVER_TRACE_CBID_cuLaunchCooperativeKernel_ptsz,
    CUPTI_DRIVER_TRACE_CBID_cuGraphLaunch,
    CUPTI_DRIVER_TRACE_CBID_cuGraphLaunch_ptsz,
};
constexpr CUpti_CallbackId kRuntimeLaunches[] = {
    CUPTI_RUNTIME_TRACE_CBID_cudaLaunchKernel_v7000,
    CUPTI_RUNTIME_TRACE_CBID_cudaLaunchKernel_ptsz_v7000,
    CUPTI_RUNTIME_TRACE_CBID_cudaLaunchKernelExC_v11060,
    CUPTI_RUNTIME_TRACE_CBID_cudaLaunchKernelExC_ptsz_v11060,
    CUPTI_RUNTIME_TRACE_CBID_cudaLaunchCooperativeKernel_v9000,
    CUPTI_RUNTIME_TRACE_CBID_cudaLaunchCooperativeKernel_ptsz_v9000,
    CUPTI_RUNTIME_TRACE_CBID_cudaGraphLaunch_v10000,
    CUPTI_RUNTIME_TRACE_CBID_cudaGraphLaunch_ptsz_v10000,
#if CUPTI_API_VERSION >= 130000
    CUPTI_RUNTIME_TRACE_CBID___cudaLaunchKernel_v13000,
    CUPTI_RUNTIME_TRACE_CBID___cudaLaunchKernel_ptsz_v13000,
#endif
};

// The loaded libcupti may know more calls than the headers, and refuses what it does not know.
constexpr CUpti_CallbackId kMostCalls = 2048;

using Switch = CUptiResult (*)(CUpti_CallbackId, uint8_t);

CUptiResult EnableAlone(const CuptiApi& api, CUpti_ActivityKind kind, Switch set, CUpti_CallbackId known) {
  const CUptiResult result = api.ActivityEnable(kind);
  if (result != CUPTI_SUCCESS) return result;
  for (CUpti_CallbackId id = 1; id < kMostCalls; ++id) {
    if (!IsLaunch(kind, id) && set(id, 0) != CUPTI_SUCCESS && id >= known) break;
  }
  return CUPTI_SUCCESS;
}

}  // namespace

bool IsLaunch(CUpti_ActivityKind kind, CUpti_CallbackId id) {
  const auto is_one_of = [id](const auto& ids) {
    return std::find(std::begin(ids), std::end(ids), id) != std::end(ids);
  };
  return kind == CUPTI_ACTIVITY_KIND_DRIVER ? is_one_of(kDriverLaunches) : is_one_of(kRuntimeLaunches);
}

CUptiResult EnableLaunches(const CuptiApi& api) {
  if (api.ActivityEnableDriverApi == nullptr || api.ActivityEnableRuntimeApi == nullptr) {
    return CUPTI_ERROR_NOT_SUPPORTED;
  }
  const CUptiResult driver =
      EnableAlone(api, CUPTI_ACTIVITY_KIND_DRIVER, api.ActivityEnableDriverApi, CUPTI_DRIVER_TRACE_CBID_SIZE);
  const CUptiResult runtime =
      EnableAlone(api, CUPTI_ACTIVITY_KIND_RUNTIME, api.ActivityEnableRuntimeApi, CUPTI_RUNTIME_TRACE_CBID_SIZE);
  return driver != CUPTI_SUCCESS ? driver : runtime;
}

}  // namespace uvmtrace
