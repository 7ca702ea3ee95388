// One function that drags in the whole recorder: see record.cmake.
#include "record/recorder.h"

extern "C" __attribute__((visibility("default"))) bool uvmtrace_record_link_test(
    const uvmtrace::RecorderOptions* options) {
  return uvmtrace::Recorder::Get().Start(*options) && uvmtrace::Recorder::Get().Close(1000);
}
