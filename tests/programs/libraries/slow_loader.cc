// A loader that keeps its lock for long whenever a thread of the recorder reads its list of files: what happens once in
// a million forks happens at every fork.
#include <dlfcn.h>
#include <link.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

namespace {

using Callback = int (*)(dl_phdr_info*, size_t, void*);
using Iterate = int (*)(Callback, void*);

struct Slow {
  Callback callback;
  void* argument;
  bool slept;
};

int SleepFirst(dl_phdr_info* info, size_t size, void* argument) {
  auto* const slow = static_cast<Slow*>(argument);
  if (!slow->slept) usleep(20'000);
  slow->slept = true;
  return slow->callback(info, size, slow->argument);
}

}  // namespace

extern "C" __attribute__((visibility("default"))) int dl_iterate_phdr(Callback callback, void* argument) {
  static const auto real = reinterpret_cast<Iterate>(dlsym(RTLD_NEXT, "dl_iterate_phdr"));
  char name[17] = "";
  prctl(PR_GET_NAME, name);
  if (strncmp(name, "uvmtrace-", 9) != 0) return real(callback, argument);
  Slow slow{callback, argument, false};
  return real(&SleepFirst, &slow);
}
