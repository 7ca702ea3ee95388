#include "preload/doors/visibility.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <atomic>

#include "preload/base/hooked_thread.h"
#include "preload/doors/resolve.h"
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
  bool Has(const char* name) const {
    for (int i = 0; i < kKept; ++i) {
      if (ready_[i].load(std::memory_order_acquire) && strncmp(names_[i], name, kNameBytes - 1) == 0) return true;
    }
    return false;
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
constinit Names unpatched;
constinit Names new_functions;
constinit std::atomic<const void*> two_runtimes[2] = {};
constinit std::atomic<const void*> third_target{nullptr};
constinit std::atomic<bool> is_new{false};

void Tell(const char* source, const Names& names, const char* how) {
  if (names.count() == 0) return;
  char list[220];
  char reason[440];
  names.Print(list, sizeof(list));
  snprintf(reason, sizeof(reason),
           "%s: %s, so what %s calls of CUDA may pass no door; its faults and migrations "
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
  TellVisibility();
}

}  // namespace

void NoteDeepBind(const char* file) { Note(&deep_bound, file); }
void NoteNamespace(const char* file) { Note(&other_namespaces, file); }

void NoteNewFunction(const char* symbol) {
  if (new_functions.Has(symbol)) return;
  new_functions.Add(symbol);
  is_new.store(true, std::memory_order_release);
}

void NoteUnpatchedFile(const char* file) {
  unpatched.Add(file);
  is_new.store(true, std::memory_order_release);
}

void NoteTwoRuntimes(const void* one, const void* other) {
  if (two_runtimes[1].load(std::memory_order_relaxed) != nullptr) return;
  two_runtimes[0].store(one, std::memory_order_relaxed);
  two_runtimes[1].store(other, std::memory_order_release);
  is_new.store(true, std::memory_order_release);
}

void NoteThirdTarget(const void* function) {
  if (third_target.exchange(function, std::memory_order_acq_rel) == nullptr) {
    is_new.store(true, std::memory_order_release);
  }
}

void TellVisibility() {
  Tell("doors.deepbind", deep_bound, "loaded with RTLD_DEEPBIND");
  Tell("doors.namespace", other_namespaces, "loaded into a namespace of its own (dlmopen)");
  Tell("doors.read_only", unpatched, "has pointers to CUDA's functions that cannot be written");
  char reason[300];
  if (new_functions.count() != 0) {
    char list[220];
    new_functions.Print(list, sizeof(list));
    snprintf(reason, sizeof(reason), "%s: newer than this uvmtrace, so its calls are not seen; use a newer uvmtrace",
             list);
    Recorder::Get().SetSourceState("doors.new_function", SourceStateKind::kUnavailable, reason);
  }
  const void* const other = two_runtimes[1].load(std::memory_order_acquire);
  const void* const one = two_runtimes[0].load(std::memory_order_relaxed);
  if (other != nullptr && IsRuntimeAddress(one) && IsRuntimeAddress(other)) {
    snprintf(reason, sizeof(reason),
             "%.100s and %.100s are both in use: each call goes to the one that its caller is "
             "linked with, or looked it up in",
             FileOf(one), FileOf(other));
    Recorder::Get().SetSourceState("doors.runtimes", SourceStateKind::kActive, reason);
  }
  if (const void* const third = third_target.load(std::memory_order_acquire)) {
    const bool runtime = IsRuntimeAddress(third);
    snprintf(reason, sizeof(reason),
             runtime ? "functions of %.100s, the third libcudart of this process, were looked up: what they "
                       "do is seen as driver calls only"
                     : "functions of %.100s stand before CUDA's, as those of another tool do already: calls that go to "
                       "them are not seen",
             FileOf(third));
    Recorder::Get().SetSourceState(runtime ? "doors.third_runtime" : "doors.third_tool", SourceStateKind::kUnavailable,
                                   reason);
  }
}

void TellVisibilityIfNew() {
  if (!is_new.exchange(false, std::memory_order_acq_rel)) return;
  const InternalWork internal;
  TellVisibility();
}

}  // namespace uvmtrace
