// Ranges and marks of NVTX.
//
// NVTX is a set of headers: its code stands in the program and in each of its libraries. The first call of each asks
// the environment for NVTX_INJECTION64_PATH, opens that library and calls its InitializeInjectionNvtx2, which puts its
// own functions into the caller's table. Where the variable names no tool, getenv below answers with our own file, so
// that LD_PRELOAD alone is enough; the environment that children inherit stays as it is. A tool that the variable names
// keeps its place, and the source state "nvtx" says so.
//
// A handler copies a name's bytes and leaves: the writer interns them. What NVTX's functions return without a tool they
// return here as well, except handles and range ids, which the program may not interpret.
#include "preload/session/nvtx.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <wchar.h>

#include <algorithm>
#include <atomic>

#include "preload/base/hooked_thread.h"
#include "preload/doors/libc_symbols.h"
#include "preload/session/session.h"
#include "record/recorder.h"

namespace uvmtrace {
namespace {

// NVTX's binary interface (nvtx3/nvToolsExt.h, nvtxDetail/nvtxTypes.h), which has not changed since version 2.
using Domain = void*;
using Name = void*;  // a registered string

struct EventAttributes {
  uint16_t version;
  uint16_t size;
  uint32_t category;
  int32_t color_type;
  uint32_t color;
  int32_t payload_type;
  int32_t reserved;
  uint64_t payload;
  int32_t message_type;
  union {
    const char* ascii;
    const wchar_t* unicode;
    Name registered;
  } message;
};
static_assert(sizeof(EventAttributes) == 48);
enum MessageType : int32_t { kAscii = 1, kUnicode = 2, kRegistered = 3 };

using Slot = void (*)();
struct CallbackTable {
  size_t struct_size;
  int (*get_module_function_table)(int module, Slot*** table, unsigned* size);
};
using GetExportTable = const void* (*)(uint32_t table);
constexpr uint32_t kCallbacks = 1;
constexpr int kCore = 1;
constexpr int kCore2 = 5;

constexpr int kNoDepth = -2;  // NVTX_NO_PUSH_POP_TRACKING: what a push and a pop return without a tool
constexpr size_t kNameBytes = 256;

constinit std::atomic<uint64_t> next_range{0};

struct Text {
  char bytes[kNameBytes];
  size_t size = 0;
};

// Cut at kNameBytes, at a whole character.
void Copy(const char* text, Text* out) {
  if (text == nullptr) return;
  size_t size = strnlen(text, kNameBytes);
  if (size == kNameBytes) {
    while (size > 0 && (text[size] & 0xc0) == 0x80) --size;
  }
  memcpy(out->bytes, text, size);
  out->size = size;
}

void Copy(const wchar_t* text, Text* out) {
  for (; text != nullptr && *text != 0 && out->size + 4 <= kNameBytes; ++text) {
    const auto point = static_cast<uint32_t>(*text);
    char* next = out->bytes + out->size;
    const auto put = [&](uint32_t byte) { *next++ = static_cast<char>(byte); };
    if (point < 0x80) {
      put(point);
    } else if (point < 0x800) {
      put(0xc0 | point >> 6);
      put(0x80 | (point & 0x3f));
    } else if (point < 0x10000) {
      put(0xe0 | point >> 12);
      put(0x80 | (point >> 6 & 0x3f));
      put(0x80 | (point & 0x3f));
    } else {
      put(0xf0 | (point >> 18 & 0x7));
      put(0x80 | (point >> 12 & 0x3f));
      put(0x80 | (point >> 6 & 0x3f));
      put(0x80 | (point & 0x3f));
    }
    out->size = static_cast<size_t>(next - out->bytes);
  }
}

// Handles are ids of strings. A domain that was made before the session has 0, the default domain's.
uint32_t IdOf(const void* handle) { return static_cast<uint32_t>(reinterpret_cast<uintptr_t>(handle)); }
void* HandleOf(uint32_t id) { return reinterpret_cast<void*>(uintptr_t{id}); }

uint32_t Intern(const Text& text) {
  return SessionRunning() ? Recorder::Get().InternString({text.bytes, text.size}) : 0;
}

void Record(AnnotationKind kind, Domain domain, uint32_t name, const Text& text, uint64_t range) {
  if (!SessionRunning()) return;
  const int host_errno = errno;
  HookedThread& thread = hooked_thread;
  if (thread.tid == 0) thread.tid = static_cast<uint32_t>(syscall(SYS_gettid));
  AnnotationEvent event;
  event.time_ns = NowNs();
  event.kind = kind;
  event.tid = thread.tid;
  event.name = name;
  event.domain = IdOf(domain);
  event.range = range;
  if (text.size == 0) {
    Recorder::Get().Record(event);
  } else {
    uint64_t tail[kNameBytes / sizeof(uint64_t)];
    const size_t words = (text.size + sizeof(uint64_t) - 1) / sizeof(uint64_t);
    tail[words - 1] = 0;
    memcpy(tail, text.bytes, text.size);
    event.name_bytes = static_cast<uint16_t>(text.size);
    Recorder::Get().Record(event, {tail, words});
  }
  errno = host_errno;
}

void Record(AnnotationKind kind, Domain domain, const EventAttributes* attributes, uint64_t range) {
  Text text;
  uint32_t name = 0;
  // The first version without a message is 32 bytes and older than any CUDA that is supported here.
  if (attributes != nullptr && attributes->size >= sizeof(EventAttributes)) {
    if (attributes->message_type == kAscii) Copy(attributes->message.ascii, &text);
    if (attributes->message_type == kUnicode) Copy(attributes->message.unicode, &text);
    if (attributes->message_type == kRegistered) name = IdOf(attributes->message.registered);
  }
  Record(kind, domain, name, text, range);
}

template <typename Character>
void RecordText(AnnotationKind kind, const Character* message, uint64_t range) {
  Text text;
  Copy(message, &text);
  Record(kind, nullptr, 0, text, range);
}

uint64_t NextRange() { return next_range.fetch_add(1, std::memory_order_relaxed) + 1; }

// The handlers, by their places in the two tables.
void DomainMark(Domain domain, const EventAttributes* attributes) {
  Record(AnnotationKind::kMark, domain, attributes, 0);
}
uint64_t DomainStart(Domain domain, const EventAttributes* attributes) {
  const uint64_t range = NextRange();
  Record(AnnotationKind::kStart, domain, attributes, range);
  return range;
}
void DomainEnd(Domain domain, uint64_t range) { Record(AnnotationKind::kEnd, domain, nullptr, range); }
int DomainPush(Domain domain, const EventAttributes* attributes) {
  Record(AnnotationKind::kPush, domain, attributes, 0);
  return kNoDepth;
}
int DomainPop(Domain domain) {
  Record(AnnotationKind::kPop, domain, nullptr, 0);
  return kNoDepth;
}
template <typename Character>
void* Register(const Character* message) {
  Text text;
  Copy(message, &text);
  return HandleOf(Intern(text));
}
Domain CreateDomainA(const char* name) { return Register(name); }
Domain CreateDomainW(const wchar_t* name) { return Register(name); }
Name RegisterA(Domain, const char* text) { return Register(text); }
Name RegisterW(Domain, const wchar_t* text) { return Register(text); }

void MarkEx(const EventAttributes* attributes) { DomainMark(nullptr, attributes); }
void MarkA(const char* message) { RecordText(AnnotationKind::kMark, message, 0); }
void MarkW(const wchar_t* message) { RecordText(AnnotationKind::kMark, message, 0); }
uint64_t StartEx(const EventAttributes* attributes) { return DomainStart(nullptr, attributes); }
template <typename Character>
uint64_t StartText(const Character* message) {
  const uint64_t range = NextRange();
  RecordText(AnnotationKind::kStart, message, range);
  return range;
}
uint64_t StartA(const char* message) { return StartText(message); }
uint64_t StartW(const wchar_t* message) { return StartText(message); }
void End(uint64_t range) { DomainEnd(nullptr, range); }
int PushEx(const EventAttributes* attributes) { return DomainPush(nullptr, attributes); }
int PushA(const char* message) {
  RecordText(AnnotationKind::kPush, message, 0);
  return kNoDepth;
}
int PushW(const wchar_t* message) {
  RecordText(AnnotationKind::kPush, message, 0);
  return kNoDepth;
}
int Pop() { return DomainPop(nullptr); }

struct Handler {
  int module;
  unsigned index;  // NvtxCallbackIdCore, NvtxCallbackIdCore2
  Slot function;
};
// No function call in it, because the library may have no dynamic initialisers.
const Handler kHandlers[] = {
    {kCore, 1, reinterpret_cast<Slot>(MarkEx)},
    {kCore, 2, reinterpret_cast<Slot>(MarkA)},
    {kCore, 3, reinterpret_cast<Slot>(MarkW)},
    {kCore, 4, reinterpret_cast<Slot>(StartEx)},
    {kCore, 5, reinterpret_cast<Slot>(StartA)},
    {kCore, 6, reinterpret_cast<Slot>(StartW)},
    {kCore, 7, reinterpret_cast<Slot>(End)},
    {kCore, 8, reinterpret_cast<Slot>(PushEx)},
    {kCore, 9, reinterpret_cast<Slot>(PushA)},
    {kCore, 10, reinterpret_cast<Slot>(PushW)},
    {kCore, 11, reinterpret_cast<Slot>(Pop)},
    {kCore2, 1, reinterpret_cast<Slot>(DomainMark)},
    {kCore2, 2, reinterpret_cast<Slot>(DomainStart)},
    {kCore2, 3, reinterpret_cast<Slot>(DomainEnd)},
    {kCore2, 4, reinterpret_cast<Slot>(DomainPush)},
    {kCore2, 5, reinterpret_cast<Slot>(DomainPop)},
    {kCore2, 10, reinterpret_cast<Slot>(RegisterA)},
    {kCore2, 11, reinterpret_cast<Slot>(RegisterW)},
    {kCore2, 12, reinterpret_cast<Slot>(CreateDomainA)},
    {kCore2, 13, reinterpret_cast<Slot>(CreateDomainW)},
};

bool Install(GetExportTable get_export_table) {
  const auto* const table = static_cast<const CallbackTable*>(get_export_table(kCallbacks));
  if (table == nullptr || table->struct_size < sizeof(CallbackTable)) return false;
  bool installed = false;
  for (const int module : {kCore, kCore2}) {
    Slot** slots = nullptr;
    unsigned size = 0;
    if (table->get_module_function_table(module, &slots, &size) == 0 || slots == nullptr) continue;
    for (const Handler& handler : kHandlers) {
      if (handler.module != module || handler.index >= size || slots[handler.index] == nullptr) continue;
      *slots[handler.index] = handler.function;
      installed = true;
    }
  }
  return installed;
}

constexpr char kVariable[] = "NVTX_INJECTION64_PATH";

bool IsVariable(const char* name) {
  if (name[0] != 'N') return false;  // nearly all end here
  for (size_t i = 0; i < sizeof(kVariable); ++i) {
    if (name[i] != kVariable[i]) return false;
  }
  return true;
}

using Getenv = char* (*)(const char*);
constinit std::atomic<Getenv> real_getenv{nullptr};

// The C library's. Found without the loader's help, because its dlsym may call malloc, and a malloc that reads its
// settings calls getenv.
Getenv RealGetenv() {
  Getenv real = real_getenv.load(std::memory_order_acquire);
  if (real != nullptr) return real;
  real = reinterpret_cast<Getenv>(LibcFunction("getenv"));
  real_getenv.store(real, std::memory_order_release);
  return real;
}

constinit std::atomic<bool> another_tool{false};
constinit std::atomic<bool> any_client{false};
constinit char own_path[PATH_MAX] = {};

// Null where it does not fit.
char* OwnPath() {
  Dl_info info{};
  if (own_path[0] == '\0' && dladdr(reinterpret_cast<void*>(&OwnPath), &info) != 0 && info.dli_fname != nullptr) {
    const size_t size = strlen(info.dli_fname);
    if (size < sizeof(own_path)) memcpy(own_path, info.dli_fname, size);
  }
  return own_path[0] != '\0' ? own_path : nullptr;
}

}  // namespace

void TellNvtx() {
  Recorder& recorder = Recorder::Get();
  if (another_tool.load(std::memory_order_relaxed)) {
    recorder.SetSourceState("nvtx", SourceStateKind::kUnavailable,
                            "NVTX_INJECTION64_PATH names another tool, which gets the ranges");
  } else if (any_client.load(std::memory_order_relaxed)) {
    recorder.SetSourceState("nvtx", SourceStateKind::kActive);
  } else {
    recorder.SetSourceState("nvtx", SourceStateKind::kIdle, "no call of NVTX was seen");
  }
}

}  // namespace uvmtrace

// Called by NVTX once for the program and once for each library that uses it. 1 means success.
extern "C" __attribute__((visibility("default"))) int InitializeInjectionNvtx2(
    uvmtrace::GetExportTable get_export_table) {
  using namespace uvmtrace;
  const int host_errno = errno;
  const bool installed = get_export_table != nullptr && Install(get_export_table);
  if (installed) {
    any_client.store(true, std::memory_order_relaxed);
    if (SessionRunning()) TellNvtx();
  }
  errno = host_errno;
  return installed ? 1 : 0;
}

// Stands before the C library's for everything in the process. May run at any time: before constructors, in a signal
// handler, and before this library is relocated. Then, as for any name but NVTX's, it is the C library's function and
// nothing else.
extern "C" __attribute__((visibility("default"))) char* getenv(const char* name) noexcept {
  using namespace uvmtrace;
  char* const value = RealGetenv()(name);
  if (!IsVariable(name) || !IsRelocated()) return value;
  const int host_errno = errno;
  char* const own = OwnPath();
  char* answer = value;
  if (value == nullptr || value[0] == '\0') {
    answer = own;
  } else if (own == nullptr || strcmp(value, own) != 0) {
    another_tool.store(true, std::memory_order_relaxed);
    if (SessionRunning()) TellNvtx();
  }
  errno = host_errno;
  return answer;
}
