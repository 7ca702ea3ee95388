// The part of libcupti that is used, as typed pointers: the activity API and nothing that subscribes.
#pragma once

#include <cupti.h>

#include <type_traits>

#include "cupti/dynamic_library.h"

namespace uvmtrace {

struct CuptiApi {
  decltype(&cuptiGetVersion) GetVersion = nullptr;
  decltype(&cuptiGetTimestamp) GetTimestamp = nullptr;
  decltype(&cuptiActivityRegisterCallbacks) ActivityRegisterCallbacks = nullptr;
  decltype(&cuptiActivitySetAttribute) ActivitySetAttribute = nullptr;
  decltype(&cuptiActivityConfigureUnifiedMemoryCounter) ActivityConfigureUnifiedMemoryCounter = nullptr;
  decltype(&cuptiActivityEnable) ActivityEnable = nullptr;
  decltype(&cuptiActivityFlushAll) ActivityFlushAll = nullptr;
  // Since CUDA 12.5; null before.
  CUptiResult (*ActivityEnableDriverApi)(CUpti_CallbackId, uint8_t) = nullptr;
  CUptiResult (*ActivityEnableRuntimeApi)(CUpti_CallbackId, uint8_t) = nullptr;
  decltype(&cuptiActivityGetNextRecord) ActivityGetNextRecord = nullptr;
  decltype(&cuptiActivityGetNumDroppedRecords) ActivityGetNumDroppedRecords = nullptr;

  // Returns the name of a function that the library lacks, or null if all are there.
  const char* Load(void* library) {
    const char* missing = nullptr;
    auto load = [&](auto& pointer, const char* name) {
      pointer = RealDlsymAs<std::remove_reference_t<decltype(pointer)>>(library, name);
      if (pointer == nullptr && missing == nullptr) missing = name;
    };
    load(GetVersion, "cuptiGetVersion");
    load(GetTimestamp, "cuptiGetTimestamp");
    load(ActivityRegisterCallbacks, "cuptiActivityRegisterCallbacks");
    load(ActivitySetAttribute, "cuptiActivitySetAttribute");
    load(ActivityConfigureUnifiedMemoryCounter, "cuptiActivityConfigureUnifiedMemoryCounter");
    load(ActivityEnable, "cuptiActivityEnable");
    load(ActivityFlushAll, "cuptiActivityFlushAll");
    load(ActivityGetNextRecord, "cuptiActivityGetNextRecord");
    load(ActivityGetNumDroppedRecords, "cuptiActivityGetNumDroppedRecords");
    ActivityEnableDriverApi = RealDlsymAs<decltype(ActivityEnableDriverApi)>(library, "cuptiActivityEnableDriverApi");
    ActivityEnableRuntimeApi =
        RealDlsymAs<decltype(ActivityEnableRuntimeApi)>(library, "cuptiActivityEnableRuntimeApi");
    return missing;
  }
};

}  // namespace uvmtrace
