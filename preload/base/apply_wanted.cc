#include "preload/base/apply_wanted.h"

#include <string.h>
#include <unistd.h>

#include <atomic>

namespace uvmtrace {
namespace {

constinit char kNone = 0;
// Null: not asked yet. &kNone: there is none.
constinit std::atomic<const char*> wanted{nullptr};

}  // namespace

const char* ApplyPathWanted() {
  const char* known = wanted.load(std::memory_order_relaxed);
  if (known == nullptr) {
    constexpr char kName[] = "UVMTRACE_APPLY=";
    if (environ == nullptr) return nullptr;  // too early to know
    known = &kNone;
    for (char** variable = environ; *variable != nullptr; ++variable) {
      if (strncmp(*variable, kName, sizeof(kName) - 1) == 0 && (*variable)[sizeof(kName) - 1] != '\0') {
        // A program that changes its environment later may reuse this memory: the session copies it when it starts.
        known = *variable + sizeof(kName) - 1;
        break;
      }
    }
    wanted.store(known, std::memory_order_relaxed);
  }
  return known == &kNone ? nullptr : known;
}

}  // namespace uvmtrace
