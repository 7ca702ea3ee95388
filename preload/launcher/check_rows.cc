// See check_rows.h.
#include "preload/launcher/check_rows.h"

#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "driver/tools_requests.h"

namespace uvmtrace::launcher {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;
// Rings of samples are locked memory, and so is what programs lock by themselves; this is what distributions give.
constexpr uint64_t kLockedEnough = 8 * kMiB;
// What the recorder takes at most, by docs/architecture.md: 64 of rings, as much of CUPTI's buffers, 64 of the driver's
// queue, 68 of names, 3 of the rest.
constexpr uint64_t kRecorderBytes = 263 * kMiB;

// The first row whose source and part of the reason fit; an empty part fits each.
struct Cure {
  const char* source;
  const char* part;
  const char* command;
};
constexpr Cure kCures[] = {
    {"gpu", "libcuda", "install NVIDIA's driver; in a container: docker run --gpus all"},
    {"gpu", "NO_DEVICE",
     "nvidia-smi -L must list a GPU; in a container: docker run --gpus all; unset CUDA_VISIBLE_DEVICES"},
    {"gpu", "cuMemAllocManaged", "use a whole GPU; on a virtual one: set enable_uvm=1 for the virtual machine's vGPU"},
    {"gpu", "", "nvidia-smi, and dmesg | grep -i nvrm, say what is wrong with the driver"},
    {"driver_queue", "No such", "nvidia-modprobe -u -c=0; in a container: docker run --device /dev/nvidia-uvm-tools"},
    {"driver_queue", "Permission denied",
     "sudo chmod 666 /dev/nvidia-uvm-tools; in a container: docker run --device /dev/nvidia-uvm-tools"},
    {"driver_queue", "not permitted", "docker run --device /dev/nvidia-uvm-tools"},
    {"driver_queue", "no descriptor", "record on the machine that has the GPU"},
    {"driver_queue", "no thread", "ulimit -u unlimited"},
    {"driver_queue", "refused",
     "install a uvmtrace that knows this driver, or a driver of a branch that this one knows"},
    {"driver_queue", "", "uvmtrace run --log debug -- PROGRAM says more"},
    {"cupti", "no libcupti", "apt-get install cuda-cupti-13-0, or pip install nvidia-cuda-cupti; or set CUDA_HOME"},
    {"cupti", "PRIVILEGES",
     "echo options nvidia NVreg_RestrictProfilingToAdminUsers=0 | sudo tee /etc/modprobe.d/uvmtrace.conf, and reboot; "
     "or run as root"},
    {"cupti", "another", "end the other profiler (nsys, ncu, a framework's)"},
    {"cupti", "", "install the CUPTI that belongs to this driver: apt-get install cuda-cupti-13-0"},
    {"bh_threads", "not visible", "docker run --pid=host; without a container: sudo mount -o remount,hidepid=0 /proc"},
    {"bh_threads", "", "ls /proc/driver/nvidia-uvm: the nvidia-uvm module must be loaded (nvidia-modprobe -u -c=0)"},
    {"bh_samples", "seccomp",
     "docker run --pid=host --cap-add PERFMON --cap-add SYSLOG --security-opt seccomp=unconfined"},
    {"bh_samples", "kptr_restrict is 2", "sudo sysctl kernel.kptr_restrict=1"},
    {"bh_samples", "mlock_kb", "sudo sysctl kernel.perf_event_mlock_kb=4096"},
    {"bh_samples", "simulated", "run check without --simulate, on a machine with a GPU"},
    {"bh_samples", "no BH thread", "docker run --pid=host --cap-add PERFMON --cap-add SYSLOG"},
    {"bh_samples", "", "run as root; in a container: docker run --pid=host --cap-add PERFMON --cap-add SYSLOG"},
    {"link_counters", "no PCIe", "none: this GPU has no such counters"},
    {"link_counters", "MIG", "use a whole GPU: a part of one has no such counters"},
    {"link_counters", "",
     "docker run -e NVIDIA_DRIVER_CAPABILITIES=compute,utility; without a container: nvidia-smi must work"},
};

std::string CureOf(std::string_view source, std::string_view reason) {
  if (source == "exact_counters") source = "driver_queue";  // the same device
  for (const Cure& cure : kCures) {
    if (source == cure.source && reason.find(cure.part) != std::string_view::npos) return cure.command;
  }
  return {};
}

std::string Answer(const Findings& findings, const char* key) {
  const auto found = findings.answers.find(key);
  return found == findings.answers.end() ? std::string() : found->second;
}

Row Lack(Row row, const char* source, std::string text) {
  row.state = RowState::kLack;
  row.cure = CureOf(source, text);
  row.text = std::move(text);
  return row;
}

Row GpuRow(const Findings& findings) {
  Row row{.name = "GPU and driver", .key = "gpu", .needed = true};
  const std::string error = Answer(findings, "error");
  if (!error.empty()) return Lack(row, "gpu", error);
  const std::string device = Answer(findings, "device");
  if (device.empty()) return Lack(row, "gpu", "CUDA gave no answer" + findings.ended);
  row.text = device;
  if (const int count = atoi(Answer(findings, "devices").c_str()); count > 1) {
    row.text += " and " + std::to_string(count - 1) + " more";
  }
  const std::string version = Answer(findings, "driver");
  const int branch = atoi(version.c_str());
  row.text += version.empty()
                  ? (Answer(findings, "simulated").empty() ? ", driver's version not visible" : ", simulated driver")
                  : ", driver " + version + " (branch " + std::to_string(branch) + ")";
  if (!version.empty() && (branch < kOldestKnownDriver || branch > kNewestKnownDriver)) {
    row.text += ", which is none of those that were compared, " + std::to_string(kOldestKnownDriver) + " to " +
                std::to_string(kNewestKnownDriver);
  }
  row.text += ", CUDA " + Answer(findings, "cuda");
  const std::string managed = Answer(findings, "managed");
  if (!managed.empty()) return Lack(row, "gpu", row.text + "; no managed memory: " + managed);
  if (!findings.ended.empty()) return Lack(row, "gpu", row.text + "; the program that tried it" + findings.ended);
  return row;
}

Row SourceRow(const Findings& findings, const char* name, const char* source, bool needed, bool gpu) {
  Row row{.name = name, .key = source, .needed = needed};
  const auto found = findings.states.find(source);
  if (!gpu || found == findings.states.end()) {
    row.state = RowState::kUntried;
    row.text = gpu ? "the recorder did not tell, because it was not started" : "not tried, because no GPU can be used";
    row.cure = "see the first line";
    return row;
  }
  const SourceState& state = found->second;
  if (state.kind != SourceStateKind::kActive) return Lack(row, source, state.reason);
  row.text = state.reason.empty() ? "works" : state.reason;
  return row;
}

// A program may bring what this one does not have.
Row CuptiRow(const Findings& findings, bool gpu) {
  Row row = SourceRow(findings, "CUPTI", "cupti", true, gpu);
  if (row.state == RowState::kLack && row.text.find("no libcupti") != std::string::npos) {
    row.text += "; a program that has one beside its libcudart, as PyTorch's packages have, is recorded with that";
  }
  return row;
}

std::string Size(uint64_t bytes) {
  return bytes == UINT64_MAX ? "unlimited"
         : bytes < kMiB      ? std::to_string(bytes / 1024) + " KiB"
                             : std::to_string(bytes / kMiB) + " MiB";
}

Row LimitsRow(const Limits& limits) {
  Row row{.name = "limits", .key = "limits", .needed = false};
  row.text = "locked memory (RLIMIT_MEMLOCK) " + Size(limits.locked_bytes) + ", control group's memory " +
             Size(limits.group_limit_bytes);
  const uint64_t limit = limits.group_limit_bytes;
  const uint64_t left = limit == UINT64_MAX               ? UINT64_MAX
                        : limits.group_used_bytes < limit ? limit - limits.group_used_bytes
                                                          : 0;
  if (left != UINT64_MAX) row.text += ", of which " + Size(left) + " are left";
  if (limits.locked_bytes < kLockedEnough) {
    row.state = RowState::kLack;
    row.text += ": rings for stacks of the driver's threads may not be locked";
    row.cure = "ulimit -l unlimited; in a container: docker run --ulimit memlock=-1";
  }
  if (left < kRecorderBytes) {
    row.state = RowState::kLack;
    row.text += ": the recorder takes up to " + Size(kRecorderBytes) + " of it";
    row.cure += (row.cure.empty() ? "" : "; ") + std::string("docker run --memory with more, or UVMTRACE_BUFFER_MB=16");
  }
  return row;
}

Row SystemMemoryRow(const Findings& findings, bool gpu) {
  Row row{.name = "HMM, ATS", .key = "system_memory", .needed = false};
  if (!gpu) {
    row.state = RowState::kUntried;
    row.text = "not tried, because no GPU can be used";
    row.cure = "see the first line";
  } else if (Answer(findings, "host_tables") == "1") {
    row.text = "ATS: the GPU reaches memory that CUDA did not allocate; its faults and migrations are recorded";
  } else if (Answer(findings, "pageable") == "1") {
    row.text = "HMM: the GPU reaches memory that CUDA did not allocate; its faults and migrations are recorded";
  } else {
    row.text = "off: the GPU reaches only memory that CUDA allocated, and nothing is missing here";
  }
  return row;
}

// What the rows mean for a trace at the detail "exact".
void Conclude(bool gpu, Verdict* verdict) {
  const auto has = [&](std::string_view key) {
    for (const Row& row : verdict->rows) {
      if (key == row.key) return row.state == RowState::kOk;
    }
    return false;
  };
  const auto put = [&](bool recorded, const char* what) {
    (recorded ? verdict->recorded : verdict->not_recorded).emplace_back(what);
  };
  put(gpu, "calls");
  const bool managed = has("gpu");
  if (has("driver_queue") || !has("cupti")) {
    put(managed && has("driver_queue"), "faults and the migrations that follow from them");
  } else {
    put(managed, "faults and migrations by CUPTI");
    verdict->not_recorded.emplace_back("what CUPTI loses of them");
  }
  put(managed && has("exact_counters"), "exact totals");
  put(has("cupti"), "kernels");
  put(has("bh_threads"), "CPU time of the BH threads");
  put(has("link_counters"), "bytes read in place over the link");
  put(has("bh_samples"), "BH threads' stacks (detail full)");
  verdict->complete = true;
  for (const Row& row : verdict->rows) verdict->complete &= !row.needed || row.state == RowState::kOk;
}

std::string Joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text.empty() ? "nothing" : text;
}

const char* StateName(RowState state) {
  switch (state) {
    case RowState::kOk:
      return "ok";
    case RowState::kLack:
      return "lack";
    case RowState::kUntried:
      return "untried";
  }
  return "";
}

std::string Quoted(std::string_view text) {
  std::string quoted = "\"";
  for (const char letter : text) {
    if (letter == '"' || letter == '\\') {
      quoted += '\\';
      quoted += letter;
    } else if (static_cast<unsigned char>(letter) < 0x20) {
      char escape[8];
      snprintf(escape, sizeof escape, "\\u%04x", static_cast<unsigned>(letter));
      quoted += escape;
    } else {
      quoted += letter;
    }
  }
  return quoted + '"';
}

std::string QuotedList(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + Quoted(word);
  return "[" + text + "]";
}

}  // namespace

Verdict Judge(const Findings& findings) {
  Verdict verdict;
  const bool gpu = Answer(findings, "error").empty() && !Answer(findings, "device").empty();
  verdict.rows = {GpuRow(findings),
                  SourceRow(findings, "event queue", "driver_queue", true, gpu),
                  SourceRow(findings, "exact counters", "exact_counters", true, gpu),
                  CuptiRow(findings, gpu),
                  SourceRow(findings, "BH threads", "bh_threads", true, gpu),
                  SourceRow(findings, "BH threads' stacks", "bh_samples", false, gpu),
                  SourceRow(findings, "link counters", "link_counters", true, gpu),
                  LimitsRow(findings.limits),
                  SystemMemoryRow(findings, gpu)};
  Conclude(gpu, &verdict);
  return verdict;
}

std::string AsText(const Verdict& verdict) {
  std::string text;
  const auto line = [&](const char* name, const char* state, const std::string& rest) {
    char head[64];
    snprintf(head, sizeof head, "%-20s%-9s", name, state);
    text += head + rest + "\n";
  };
  for (const Row& row : verdict.rows) {
    line(row.name, StateName(row.state), row.cure.empty() ? row.text : row.text + ". Cure: " + row.cure);
  }
  line("at detail exact", verdict.complete ? "complete" : "partly",
       "recorded: " + Joined(verdict.recorded) + "; not: " + Joined(verdict.not_recorded));
  return text;
}

std::string AsJson(const Verdict& verdict) {
  std::string text = std::string("{\"complete\": ") + (verdict.complete ? "true" : "false") + ",\n \"checks\": [";
  const char* separator = "\n";
  for (const Row& row : verdict.rows) {
    text += std::string(separator) + "  {\"name\": " + Quoted(row.key) +
            ", \"state\": " + Quoted(StateName(row.state)) + ", \"needed\": " + (row.needed ? "true" : "false") +
            ", \"text\": " + Quoted(row.text) + ", \"cure\": " + Quoted(row.cure) + "}";
    separator = ",\n";
  }
  return text + "],\n \"recorded\": " + QuotedList(verdict.recorded) +
         ",\n \"not_recorded\": " + QuotedList(verdict.not_recorded) + "}\n";
}

}  // namespace uvmtrace::launcher
