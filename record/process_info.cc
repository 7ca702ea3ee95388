// See process_info.h.
#include "record/process_info.h"

#include <limits.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include <initializer_list>

#include "record/proc_file.h"
#include "record/recorder.h"

namespace uvmtrace {
namespace {

// The value of "MemTotal:   1024 kB", in bytes; 0 if the line is not there.
uint64_t MemoryInfoBytes(std::string_view meminfo, std::string_view name) {
  const size_t line = meminfo.find(name);
  if (line == std::string_view::npos) return 0;
  std::string_view rest(meminfo.data() + line + name.size(), meminfo.size() - line - name.size());
  while (!rest.empty() && rest.front() == ' ') rest.remove_prefix(1);
  return ParseDecimal(rest) * 1024;
}

uint64_t RealtimeNs() {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000u + static_cast<uint64_t>(now.tv_nsec);
}

// The value of the first of these variables that is a short number: a name or a path has no business in the trace.
std::string_view NumberOf(std::initializer_list<std::string_view> names) {
  for (const std::string_view name : names) {
    for (char** variable = environ; variable != nullptr && *variable != nullptr; ++variable) {
      const std::string_view entry(*variable);
      if (entry.size() <= name.size() || entry[name.size()] != '=' ||
          std::string_view(entry.data(), name.size()) != name) {
        continue;
      }
      const std::string_view value(entry.data() + name.size() + 1, entry.size() - name.size() - 1);
      bool is_number = !value.empty() && value.size() <= 9;
      for (const char c : value) is_number &= c >= '0' && c <= '9';
      if (is_number) return value;
      break;
    }
  }
  return {};
}

}  // namespace

void AppendProcessInfo(WireBuffer& out, std::string_view detail) {
  out.Unsigned(1, static_cast<uint64_t>(getpid()));
  out.Unsigned(2, static_cast<uint64_t>(getppid()));
  utsname names;
  if (uname(&names) == 0) out.String(3, names.nodename);

  WireBuffer file;
  // Arguments end with NUL. A program may have written over them (setproctitle): the last one may lack it.
  if (ReadProcFile("/proc/self/cmdline", file, 64 * 1024)) {
    std::string_view rest = AsText(file);
    while (!rest.empty()) {
      const size_t end = rest.find('\0');
      const size_t bytes = end == std::string_view::npos ? rest.size() : end;
      out.StringAlways(4, {rest.data(), bytes});
      rest.remove_prefix(end == std::string_view::npos ? bytes : bytes + 1);
    }
  }
  char executable[PATH_MAX];
  const ssize_t length = readlink("/proc/self/exe", executable, sizeof(executable));
  if (length > 0) out.String(5, {executable, static_cast<size_t>(length)});

  out.Unsigned(6, NowNs());
  out.Unsigned(7, RealtimeNs());
  out.String(8, UVMTRACE_VERSION);
  out.String(9, detail);
  out.Unsigned(11, static_cast<uint64_t>(sysconf(_SC_PAGESIZE)));
  out.Unsigned(12, static_cast<uint64_t>(sysconf(_SC_NPROCESSORS_ONLN)));
  if (ReadProcFile("/proc/meminfo", file)) {
    out.Unsigned(13, MemoryInfoBytes(AsText(file), "MemTotal:"));
    out.Unsigned(14, MemoryInfoBytes(AsText(file), "MemAvailable:"));
  }
  file.Free();
  // mpirun, other process managers, torchrun, srun. The most particular first: torchrun may run beneath srun.
  out.String(19, NumberOf({"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "RANK", "SLURM_PROCID"}));
  out.String(20, NumberOf({"OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "LOCAL_RANK", "SLURM_LOCALID"}));
}

}  // namespace uvmtrace
