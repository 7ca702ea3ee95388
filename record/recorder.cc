// See recorder.h.
#include "record/recorder.h"

#include <time.h>

namespace uvmtrace {
namespace {
constinit Recorder g_recorder;
}

Recorder& Recorder::Get() { return g_recorder; }
bool Recorder::Start(const RecorderOptions&) { return false; }
void Recorder::BecomeSource() {}
uint32_t Recorder::InternString(std::string_view) { return 0; }
uint32_t Recorder::DefineKernelThread(const KernelThreadDefinition&) { return 0; }
void Recorder::DefineDevice(const DeviceDefinition&) {}
void Recorder::DefineParameter(std::string_view, std::string_view) {}
void Recorder::SetProcess(const ProcessDefinition&) {}
void Recorder::SetSourceState(std::string_view, SourceStateKind, std::string_view) {}
void Recorder::CountLoss(std::string_view, std::string_view, uint64_t) {}
bool Recorder::Flush(int) { return false; }
bool Recorder::Close(int) { return false; }
void Recorder::AbandonAfterFork() {}
const char* Recorder::path() const { return ""; }
uint64_t Recorder::WriterCpuNs() const { return 0; }
void Recorder::RecordBytes(EventType, const void*, size_t, std::span<const uint64_t>) {}

uint64_t NowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000u + static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace uvmtrace
