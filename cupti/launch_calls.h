// The calls whose activity records are wanted: those that launch kernels and graphs. All calls would cost a program as
// much again as it spends in them.
#pragma once

#include <cupti.h>

#include "cupti/cupti_api.h"

namespace uvmtrace {

// Switches launches on, and no other call, in a context that exists. CUPTI_ERROR_NOT_SUPPORTED: this libcupti is older
// than CUDA 12.5 and cannot tell launches alone.
CUptiResult EnableLaunches(const CuptiApi& api);

// Whether a record of CUPTI_ACTIVITY_KIND_DRIVER or _RUNTIME tells of a launch.
bool IsLaunch(CUpti_ActivityKind kind, CUpti_CallbackId id);

}  // namespace uvmtrace
