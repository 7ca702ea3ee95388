#include "preload/doors/visibility.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <atomic>

#include "preload/calls/hook.h"
#include "preload/session/session.h"
#include "record/diagnostics.h"
#include "record/recorder.h"

namespace uvmtrace {
namespace {

// The first few names; the rest is a number.
class Names {
 public:
  void Add(const char* file) {
    const char* const slash = file != nullptr ? strrchr(file, '/') : nullptr;
    const char* const name = slash != nullptr ? slash + 1 : file;
    const int index = count_.fetch_add(1, std::memory_order_relaxed);
    if (index >= kKept) return;
    strncpy(names_[index], name != nullptr ? name : "the program", kNameBytes - 1);
    ready_[index].store(true, std::memory_order_release);
  }
  int count() const { return count_.load(std::memory_order_relaxed); }
  // "libone.so, libtwo.so and 3 more"
  void Print(char* text, size_t bytes) const {
    size_t used = 0;
    text[0] = '\0';
    for (int i = 0; i < kKept; ++i) {
      if (!ready_[i].load(std::memory_order_acquire)) break;
      const int wrote = snprintf(text + used, bytes - used, "%s%s", used != 0 ? ", " : "", names_[i]);
      if (wrote < 0 || used + static_cast<size_t>(wrote) >= bytes) return;
      used += static_cast<size_t>(wrote);
    }
    if (count() > kKept) snprintf(text + used, bytes - used, " and %d more", count() - kKept);
  }

 private:
  static constexpr int kKept = 3;
  static constexpr size_t kNameBytes = 64;
  std::atomic<int> count_{0};
  std::atomic<bool> ready_[kKept] = {};
  char names_[kKept][kNameBytes] = {};
};

constinit Names deep_bound;
constinit Names other_namespaces;
constinit std::atomic<const void*> two_runtimes[2] = {};
constinit std::atomic<const void*> third_runtime{nullptr};
constinit std::atomic<const void*> unclear_caller{nullptr};

void Tell(const char* source, const Names& names, const char* how) {
  if (names.count() == 0) return;
  char list[220];
  char reason[440];
  names.Print(list, sizeof(list));
  snprintf(reason, sizeof(reason),
           "%s: loaded %s, so what %s calls of CUDA may pass no door; its faults and migrations "
           "are recorded all the same",
           list, how, names.count() == 1 ? "it" : "they");
  Recorder::Get().SetSourceState(source, SourceStateKind::kUnavailable, reason);
}

const char* FileOf(const void* function) {
  Dl_info info;
  if (dladdr(function, &info) == 0 || info.dli_fname == nullptr) return "a file without a name";
  const char* const slash = strrchr(info.dli_fname, '/');
  return slash != nullptr ? slash + 1 : info.dli_fname;
}

void Note(Names* names, const char* file) {
  InternalWork internal;
  names->Add(file);
  if (SessionRunning()) TellVisibility();
}

}  // namespace

void NoteDeepBind(const char* file) { Note(&deep_bound, file); }
void NoteNamespace(const char* file) { Note(&other_namespaces, file); }

void TellVisibility() {
  Tell("doors.deepbind", deep_bound, "with RTLD_DEEPBIND");
  Tell("doors.namespace", other_namespaces, "into a namespace of its own (dlmopen)");
  char reason[300];
  if (const void* const one = two_runtimes[0].load(std::memory_order_acquire)) {
    snprintf(reason, sizeof(reason),
             "%.100s and %.100s are both in use: each call goes to the one that its caller is "
             "linked with, or looked it up in",
             FileOf(one), FileOf(two_runtimes[1].load(std::memory_order_acquire)));
    Recorder::Get().SetSourceState("doors.runtimes", SourceStateKind::kActive, reason);
  }
  if (const void* const caller = unclear_caller.load(std::memory_order_acquire)) {
    snprintf(
        reason, sizeof(reason),
        "this process has several libcudart, and %.100s calls one without being linked with any: its calls go to the "
        "one that was loaded first",
        FileOf(caller));
    Recorder::Get().SetSourceState("doors.unclear_runtime", SourceStateKind::kUnavailable, reason);
  }
  if (const void* const third = third_runtime.load(std::memory_order_acquire)) {
    snprintf(reason, sizeof(reason),
             "functions of %.100s, the third libcudart of this process, were looked up: what they "
             "do is seen as driver calls only",
             FileOf(third));
    Recorder::Get().SetSourceState("doors.third_runtime", SourceStateKind::kUnavailable, reason);
  }
}

void TellTwoRuntimes(const void* one, const void* other) {
  if (two_runtimes[1].exchange(other, std::memory_order_acq_rel) != nullptr) return;
  two_runtimes[0].store(one, std::memory_order_release);
  if (SessionRunning()) TellVisibility();
}

void NoteUnclearCaller(const void* call_site) {
  if (unclear_caller.exchange(call_site, std::memory_order_acq_rel) == nullptr && SessionRunning()) TellVisibility();
}

void TellThirdRuntime(const void* function) {
  if (third_runtime.exchange(function, std::memory_order_acq_rel) == nullptr && SessionRunning()) TellVisibility();
}

}  // namespace uvmtrace

// For dlsym.S.
extern "C" __attribute__((visibility("hidden"))) void uvmtrace_note_dlopen(const char* file) {
  const int host_errno = errno;
  uvmtrace::NoteDeepBind(file);
  errno = host_errno;
}
extern "C" __attribute__((visibility("hidden"))) void uvmtrace_note_dlmopen(long, const char* file) {
  const int host_errno = errno;
  uvmtrace::NoteNamespace(file);
  errno = host_errno;
}
