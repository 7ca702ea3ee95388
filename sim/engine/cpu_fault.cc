#include "sim/engine/cpu_fault.h"

#include <signal.h>
#include <ucontext.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>

#include "sim/engine/engine.h"

namespace uvmsim {
namespace {

// A disposition that our handler stands in front of. Two slots, so that a fault in another thread never reads a
// half-written one.
class Disposition {
 public:
  struct sigaction Get() const {
    return slots_[current_.load(std::memory_order_acquire)];
  }
  void Set(const struct sigaction& action) {
    const int next = 1 - current_.load(std::memory_order_relaxed);
    slots_[next] = action;
    current_.store(next, std::memory_order_release);
  }

 private:
  struct sigaction slots_[2] = {};
  std::atomic<int> current_{0};
};

// What was there before our first installation; and, if the host put its own handler over ours and we went in front
// again, that one. It will usually hand on what it does not know, to us: then the first one's turn has come.
Disposition g_original;
Disposition g_later;
std::atomic<int> g_installations{0};
Mutex g_install_mutex;

// The signal context with which we are inside of g_later.
thread_local const void* t_inside_later __attribute__((tls_model("initial-exec"))) = nullptr;

uint64_t ProgramCounter(const ucontext_t* context) {
#if defined(__x86_64__)
  return static_cast<uint64_t>(context->uc_mcontext.gregs[REG_RIP]);
#elif defined(__aarch64__)
  return context->uc_mcontext.pc;
#else
#error "uvmsim: teach it where this architecture keeps the program counter in a signal context"
#endif
}

Access FaultAccess(const ucontext_t* context) {
#if defined(__x86_64__)
  return (context->uc_mcontext.gregs[REG_ERR] & 2) != 0 ? Access::kWrite : Access::kRead;
#else
  // The syndrome register is in a record behind the context; a write is the answer that is right for both.
  (void)context;
  return Access::kWrite;
#endif
}

// As if our handler had never been there: the process dies of SIGSEGV at this very instruction, or is told nothing.
void UseDefault(int signal_number, const siginfo_t* info) {
  signal(signal_number, SIG_DFL);
  // A fault comes again when we return. One that was sent with kill does not: send it again; it is blocked until we
  // return.
  if (info->si_code <= 0) raise(signal_number);
}

void HandOn(int signal_number, siginfo_t* info, void* context) {
  const bool to_later = g_installations.load() > 1 && t_inside_later != context;
  Disposition& disposition = to_later ? g_later : g_original;
  const struct sigaction previous = disposition.Get();
  const bool with_info = (previous.sa_flags & SA_SIGINFO) != 0;
  if (!with_info && previous.sa_handler == SIG_IGN && info->si_code <= 0) return;
  if (!with_info && (previous.sa_handler == SIG_DFL || previous.sa_handler == SIG_IGN)) {
    UseDefault(signal_number, info);  // a fault cannot be ignored: the kernel kills as well
    return;
  }
  sigset_t mask = static_cast<ucontext_t*>(context)->uc_sigmask;
  for (int other = 1; other < NSIG; ++other) {
    if (sigismember(&previous.sa_mask, other) == 1) sigaddset(&mask, other);
  }
  if ((previous.sa_flags & SA_NODEFER) == 0) sigaddset(&mask, signal_number);
  if ((previous.sa_flags & SA_RESETHAND) != 0) {
    struct sigaction standard = {};
    standard.sa_handler = SIG_DFL;
    disposition.Set(standard);
  }
  if (to_later) t_inside_later = context;
  pthread_sigmask(SIG_SETMASK, &mask, nullptr);
  if (with_info) {
    previous.sa_sigaction(signal_number, info, context);
  } else {
    previous.sa_handler(signal_number);
  }
  if (to_later) t_inside_later = nullptr;
}

void OnSignal(int signal_number, siginfo_t* info, void* context) {
  const int saved_errno = errno;
  auto* machine = static_cast<ucontext_t*>(context);
  Engine* engine = Engine::Get();
  const bool ours =
      engine != nullptr && info->si_code == SEGV_ACCERR &&
      engine->HandleCpuFault(reinterpret_cast<uint64_t>(info->si_addr), FaultAccess(machine), ProgramCounter(machine));
  errno = saved_errno;
  if (!ours) HandOn(signal_number, info, context);
}

}  // namespace

void EnsureCpuFaultHandler() {
  struct sigaction installed = {};
  sigaction(SIGSEGV, nullptr, &installed);
  if ((installed.sa_flags & SA_SIGINFO) != 0 && installed.sa_sigaction == &OnSignal) return;
  Lock lock(&g_install_mutex);
  // Once more: another thread may have been faster.
  sigaction(SIGSEGV, nullptr, &installed);
  if ((installed.sa_flags & SA_SIGINFO) != 0 && installed.sa_sigaction == &OnSignal) return;
  (g_installations == 0 ? g_original : g_later).Set(installed);
  ++g_installations;
  struct sigaction ours = {};
  ours.sa_sigaction = &OnSignal;
  ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
  sigfillset(&ours.sa_mask);
  sigaction(SIGSEGV, &ours, nullptr);
}

}  // namespace uvmsim
