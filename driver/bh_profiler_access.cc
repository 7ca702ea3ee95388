// See bh_profiler_access.h.
#include "driver/bh_profiler_access.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "driver/bh_profiler_ring.h"
#include "driver/proc_file.h"

namespace uvmtrace {
namespace {

constexpr const char* kGivePermission =
    "run as root, or with CAP_PERFMON and CAP_SYSLOG (docker run --cap-add PERFMON --cap-add SYSLOG)";
constexpr int kCapSysAdmin = 21;
constexpr int kCapPerfmon = 38;

int OpenPerfEvent(perf_event_attr* attributes, uint32_t tid) {
  return static_cast<int>(
      syscall(SYS_perf_event_open, attributes, static_cast<pid_t>(tid), -1, -1, PERF_FLAG_FD_CLOEXEC));
}

// What /proc/sys/kernel/<name> holds, or "unknown".
struct KernelSetting {
  KernelSetting(const char* root, const char* name) {
    char path[600];
    snprintf(path, sizeof path, "%s/proc/sys/kernel/%s", root, name);
    const ssize_t length = ReadSmallFile(path, value, sizeof value);
    if (length <= 0) {
      snprintf(value, sizeof value, "unknown");
    } else if (value[length - 1] == '\n') {
      value[length - 1] = '\0';
    }
  }
  char value[32];
};

// What /proc/self/status says about this process.
struct OwnRights {
  explicit OwnRights(const char* root) {
    char path[600];
    char text[8192];
    snprintf(path, sizeof path, "%s/proc/self/status", root);
    if (ReadSmallFile(path, text, sizeof text) <= 0) return;
    if (const char* at = strstr(text, "\nSeccomp:")) seccomp_filter = atoi(at + strlen("\nSeccomp:")) == 2;
    if (const char* at = strstr(text, "\nCapEff:")) {
      const uint64_t capabilities = strtoull(at + strlen("\nCapEff:"), nullptr, 16);
      may_profile = (capabilities >> kCapPerfmon & 1) != 0 || (capabilities >> kCapSysAdmin & 1) != 0;
    }
  }
  bool seccomp_filter = false;
  bool may_profile = false;
};

}  // namespace

const PerfCalls kKernelPerf = {&OpenPerfEvent};

perf_event_attr BottomHalfAttributes() {
  perf_event_attr attributes;
  memset(&attributes, 0, sizeof attributes);
  attributes.size = sizeof attributes;
  attributes.type = PERF_TYPE_SOFTWARE;
  // A timer that runs while the thread does; what is left of a period when it is scheduled out counts when it is back.
  attributes.config = PERF_COUNT_SW_TASK_CLOCK;
  attributes.sample_period = kBottomHalfPeriodNs;
  attributes.sample_type = kPerfSampleType;
  attributes.exclude_user = 1;
  attributes.exclude_callchain_user = 1;
  attributes.use_clockid = 1;
  attributes.clockid = CLOCK_MONOTONIC;
  // Nobody waits for it.
  attributes.watermark = 1;
  attributes.wakeup_watermark = UINT32_MAX;
  return attributes;
}

void DescribeOpenError(const char* root, int error, char* reason, size_t reason_size) {
  const OwnRights rights(root);
  const KernelSetting paranoid(root, "perf_event_paranoid");
  const ErrorText text(error);
  switch (error) {
    case EACCES:
      if (rights.may_profile) {
        snprintf(reason, reason_size,
                 "perf_event_open: %s, though this process has CAP_PERFMON: it has it in a user namespace only (a "
                 "rootless container), or a security module such as SELinux forbids it",
                 text.text);
      } else {
        snprintf(reason, reason_size,
                 "perf_event_open: %s. The driver's thread belongs to root and kernel.perf_event_paranoid is %s: %s",
                 text.text, paranoid.value, kGivePermission);
      }
      break;
    case EPERM:
      if (rights.seccomp_filter) {
        snprintf(reason, reason_size,
                 "perf_event_open: %s by a seccomp filter, such as docker's: %s; an older docker needs --security-opt "
                 "seccomp=unconfined as well",
                 text.text, kGivePermission);
      } else {
        snprintf(reason, reason_size,
                 "perf_event_open: %s. The kernel is locked down (/sys/kernel/security/lockdown), or a security module "
                 "forbids it; kernel.perf_event_paranoid is %s",
                 text.text, paranoid.value);
      }
      break;
    case ENOSYS:
      snprintf(reason, reason_size, "perf_event_open: %s: the kernel is built without CONFIG_PERF_EVENTS%s", text.text,
               rights.seccomp_filter
                   ? ", or the container's seccomp filter hides the call (--security-opt seccomp=unconfined)"
                   : ", or is not Linux's own (gVisor)");
      break;
    case EINVAL:
    case E2BIG:
      snprintf(reason, reason_size,
               "perf_event_open: %s: the kernel does not know this kind of sampling; Linux 4.1 or later does",
               text.text);
      break;
    case EMFILE:
    case ENFILE:
      snprintf(reason, reason_size, "perf_event_open: %s: raise the limit of open files (ulimit -n)", text.text);
      break;
    default:
      snprintf(reason, reason_size, "perf_event_open: %s", text.text);
      break;
  }
}

void DescribeMapError(const char* root, int error, char* reason, size_t reason_size) {
  const ErrorText text(error);
  if (error == EPERM) {
    const KernelSetting limit(root, "perf_event_mlock_kb");
    snprintf(reason, reason_size,
             "the ring of samples cannot be mapped: %s. Other profilers use up kernel.perf_event_mlock_kb, which is "
             "%s: raise it, or run with CAP_IPC_LOCK",
             text.text, limit.value);
  } else {
    snprintf(reason, reason_size, "the ring of samples cannot be mapped: %s", text.text);
  }
}

void DescribeSymbolsError(const char* root, KernelSymbols::Access access, int error, char* reason, size_t reason_size) {
  switch (access) {
    case KernelSymbols::Access::kHidden: {
      const KernelSetting restriction(root, "kptr_restrict");
      const bool for_nobody = strcmp(restriction.value, "2") == 0;
      snprintf(reason, reason_size,
               "kernel.kptr_restrict is %s, so /proc/kallsyms has no addresses%s, and stacks would have no names: %s",
               restriction.value, for_nobody ? " for anybody" : " without CAP_SYSLOG",
               for_nobody ? "sysctl kernel.kptr_restrict=1" : kGivePermission);
      break;
    }
    case KernelSymbols::Access::kUnreadable:
      snprintf(reason, reason_size,
               "/proc/kallsyms cannot be read (%s), and stacks would have no names: the kernel needs CONFIG_KALLSYMS",
               ErrorText(error).text);
      break;
    case KernelSymbols::Access::kNoMemory:
      snprintf(reason, reason_size, "no memory left for the kernel's symbols");
      break;
    case KernelSymbols::Access::kReadable:
      reason[0] = '\0';
      break;
  }
}

}  // namespace uvmtrace
