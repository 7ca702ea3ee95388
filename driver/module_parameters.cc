// See module_parameters.h.
#include "driver/module_parameters.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "driver/directory.h"
#include "driver/proc_file.h"
#include "record/recorder.h"

namespace uvmtrace {

void RecordModuleParameters(const char* root) {
  Recorder& recorder = Recorder::Get();
  char folder[512];
  snprintf(folder, sizeof folder, "%s/sys/module/nvidia_uvm/parameters", root);
  char unreadable[512] = "not readable:";
  size_t used = strlen(unreadable);
  bool all_readable = true;
  const int error = ForEachEntry(folder, [&](const char* name) {
    char path[1024];
    char value[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    ssize_t length = ReadSmallFile(path, value, sizeof value);
    if (length < 0) {
      all_readable = false;
      const int written =
          snprintf(unreadable + used, sizeof unreadable - used, " %s (%s)", name, ErrorText(errno).text);
      if (written > 0 && used + static_cast<size_t>(written) < sizeof unreadable) used += static_cast<size_t>(written);
      return;
    }
    if (length > 0 && value[length - 1] == '\n') --length;
    recorder.DefineParameter(name, {value, static_cast<size_t>(length)});
  });
  if (error != 0) {
    char reason[768];
    snprintf(reason, sizeof reason,
             "%s cannot be read (%s): the nvidia-uvm driver is not loaded, or /sys is hidden here", folder,
             ErrorText(error).text);
    recorder.SetSourceState("module_parameters", SourceStateKind::kUnavailable, reason);
    return;
  }
  recorder.SetSourceState("module_parameters", SourceStateKind::kActive, all_readable ? "" : unreadable);
}

}  // namespace uvmtrace
