// What the trace says about the process rather than about an instant: functions, devices, driver threads, parameters,
// the process itself, and what each source can do.
//
// A definition is encoded once, when it is made, under a short lock; the writer copies the bytes into the next chunk,
// and all of them again at a restart. Any thread defines, one thread (the writer) appends.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "record/hash_index.h"
#include "record/memory.h"
#include "record/os/futex.h"
#include "record/recorder.h"
#include "record/wire.h"

namespace uvmtrace {

class Definitions {
 public:
  // False or 0: no memory, more of it than any real process defines, or the lock could not be had.
  bool DefineFunctions(std::span<const FunctionDefinition> functions);
  bool DefineDevice(const DeviceDefinition& device);
  bool DefineParameter(std::string_view name, std::string_view value);
  bool DefineManagedVariable(std::string_view name, uint64_t address, uint64_t bytes);
  bool DefineMemoryArea(const MemoryAreaDefinition& area);
  bool DefineAuditCount(std::string_view function, uint64_t happened, uint64_t seen);
  uint32_t DefineKernelThread(const KernelThreadDefinition& thread);
  uint32_t DefineKernelStack(std::span<const uint32_t> frames);
  uint32_t DefineCode(uint32_t file, uint32_t function);
  bool DefineDetailChange(std::string_view detail, std::string_view reason, uint64_t now_ns);
  bool SetSourceState(std::string_view name, SourceStateKind state, std::string_view reason, uint64_t now_ns);

  // The Process fields that the recorder knows by itself (process_info.h), encoded; kept for good.
  WireBuffer& process_body() { return process_body_; }
  bool SetProcess(const ProcessDefinition& process);

  // Writer: whether Append has anything to say that it has not said.
  bool HasNew();
  // Writer: what is new, or everything. A caller whose chunk was not written asks for everything next time. False: the
  // lock could not be had, and nothing was appended.
  bool Append(WireBuffer& out, bool everything);

 private:
  static constexpr size_t kLimitBytes = 4 * 1024 * 1024;
  static constexpr int kSourceStateLimit = 64;

  struct SourceStateEntry {
    char name[48];
    char reason[448];
    uint64_t time_ns;
    uint16_t name_bytes;
    uint16_t reason_bytes;
    SourceStateKind state;
    bool is_new;
  };

  ShortLock lock_;
  WireBuffer log_{kLimitBytes};  // whole fields of Chunk, one after another
  size_t appended_bytes_ = 0;
  WireBuffer process_body_{kLimitBytes};
  WireBuffer process_set_{kLimitBytes};
  bool process_is_new_ = true;
  uint32_t kernel_threads_ = 0;
  uint32_t kernel_stacks_ = 0;
  HashIndex code_index_;
  GrowableArray<uint64_t> codes_{kLimitBytes};  // file and function of id 1, 2, ...
  int source_states_ = 0;
  SourceStateEntry source_state_[kSourceStateLimit] = {};
};

}  // namespace uvmtrace
