#include "preload/base/config.h"

#include <stdio.h>
#include <string.h>

#include <charconv>
#include <string_view>

namespace uvmtrace {
namespace {

using Warn = void (*)(const char*);

constexpr std::string_view kPrefix = "UVMTRACE_";

// In the order of the enumerations.
constexpr const char* kDetails[] = {"exact", "calls", "light", "sampled", "full"};
constexpr const char* kSources[] = {"auto", "queue", "cupti"};
constexpr const char* kLogLevels[] = {"quiet", "warn", "info", "debug"};

void WarnValue(Warn warn, std::string_view name, std::string_view value, const char* expected) {
  char line[400];
  snprintf(line, sizeof(line), "%.*s='%.60s'%s: %s; the default is used", static_cast<int>(name.size()), name.data(),
           value.data(), value.size() > 60 ? "..." : "", expected);
  warn(line);
}

// Digits only: no sign, no space, no unit.
template <typename Number>
bool ParseNumber(std::string_view value, uint64_t minimum, uint64_t maximum, uint64_t scale, Number* number) {
  uint64_t parsed = 0;
  const char* const end = value.data() + value.size();
  const auto [rest, error] = std::from_chars(value.data(), end, parsed);
  if (error != std::errc() || rest != end || parsed < minimum || parsed > maximum) return false;
  *number = static_cast<Number>(parsed * scale);
  return true;
}

template <typename Enumeration, size_t kCount>
bool ParseName(std::string_view value, const char* const (&names)[kCount], Enumeration* result) {
  for (size_t i = 0; i < kCount; ++i) {
    if (value != names[i]) continue;
    *result = static_cast<Enumeration>(i);
    return true;
  }
  return false;
}

// The variables, in the order of config.h. Returns false if the name is none of them.
bool ReadVariable(std::string_view name, std::string_view value, Config* config, Warn warn) {
  if (name == "UVMTRACE_OUT") {
    if (value.empty()) {
      WarnValue(warn, name, value, "must be a file name");
    } else if (value.size() >= sizeof(config->out)) {
      WarnValue(warn, name, value, "is longer than a path can be");
    } else {
      memcpy(config->out, value.data(), value.size());
      config->out[value.size()] = '\0';
    }
  } else if (name == "UVMTRACE_DETAIL") {
    if (value == "auto") {
      config->detail = Detail::kExact;
    } else if (!ParseName(value, kDetails, &config->detail)) {
      WarnValue(warn, name, value, "must be calls, light, sampled, exact or full");
    }
  } else if (name == "UVMTRACE_SOURCE") {
    if (!ParseName(value, kSources, &config->source)) WarnValue(warn, name, value, "must be auto, queue or cupti");
  } else if (name == "UVMTRACE_MAX_OVERHEAD") {
    // Nothing records migrations until they cost too much any more: what older scripts set is no mistake.
  } else if (name == "UVMTRACE_APPLY") {
    // Read by apply_wanted.cc, because the doors ask before a session starts.
  } else if (name == "UVMTRACE_STACKS") {
    if (!ParseNumber(value, 0, kMaximumStackFrames, 1, &config->stack_frames)) {
      WarnValue(warn, name, value, "must be a number of frames from 0 to 128");
    }
  } else if (name == "UVMTRACE_BUFFER_MB") {
    if (!ParseNumber(value, 4, 4096, 1 << 20, &config->buffer_bytes)) {
      WarnValue(warn, name, value, "must be a number of MiB from 4 to 4096");
    }
  } else if (name == "UVMTRACE_MAX_MB") {
    if (!ParseNumber(value, 1, 1 << 20, 1 << 20, &config->max_file_bytes)) {
      WarnValue(warn, name, value, "must be a number of MiB from 1 to 1048576");
    }
  } else if (name == "UVMTRACE_LOG") {
    if (!ParseName(value, kLogLevels, &config->log)) {
      WarnValue(warn, name, value, "must be quiet, warn, info or debug");
    }
  } else if (name == "UVMTRACE_CHILDREN") {
    if (value == "0" || value == "1") {
      config->children = value == "1";
    } else {
      WarnValue(warn, name, value, "must be 0 or 1");
    }
  } else if (name == "UVMTRACE_KERNELS") {
    if (value == "0" || value == "1") {
      config->kernels = config->launches = value == "1";
    } else {
      WarnValue(warn, name, value, "must be 0 or 1");
    }
  } else if (name == "UVMTRACE_BH_STACKS") {
    if (value == "0" || value == "1") {
      config->bottom_half_stacks = value == "1" ? Config::BottomHalfStacks::kOn : Config::BottomHalfStacks::kOff;
    } else {
      WarnValue(warn, name, value, "must be 0 or 1");
    }
  } else if (name == "UVMTRACE_AUDIT") {
    if (value == "0" || value == "1") {
      config->audit = value == "1";
    } else {
      WarnValue(warn, name, value, "must be 0 or 1");
    }
  } else if (name == "UVMTRACE_DRAIN_US") {
    if (!ParseNumber(value, 100, 1'000'000, 1, &config->drain_period_us)) {
      WarnValue(warn, name, value, "must be a number of microseconds from 100 to 1000000");
    }
  } else if (name == "UVMTRACE_SAMPLE_MS") {
    if (!ParseNumber(value, 1, 10'000, 1000, &config->sample_period_us)) {
      WarnValue(warn, name, value, "must be a number of milliseconds from 1 to 10000");
    }
  } else {
    return false;
  }
  return true;
}

}  // namespace

const char* DetailName(Detail detail) { return kDetails[static_cast<int>(detail)]; }

void ReadConfig(const char* const* environment, Config* config, Warn warn) {
  if (environment == nullptr) return;
  for (; *environment != nullptr; ++environment) {
    const std::string_view variable(*environment);
    if (!variable.starts_with(kPrefix) || variable.starts_with("UVMTRACE_SIM_")) continue;
    const size_t equals = variable.find('=');
    if (equals == std::string_view::npos) continue;
    const std::string_view name(*environment, equals);
    if (ReadVariable(name, *environment + equals + 1, config, warn)) continue;
    char line[300];
    snprintf(line, sizeof(line),
             "unknown variable %.*s is ignored; known are UVMTRACE_OUT, _DETAIL, _SOURCE, _APPLY, _STACKS, "
             "_BUFFER_MB, _MAX_MB, _LOG, _CHILDREN, _KERNELS, _BH_STACKS, _AUDIT, _DRAIN_US, _SAMPLE_MS",
             static_cast<int>(name.size() < 80 ? name.size() : 80), name.data());
    warn(line);
  }
}

}  // namespace uvmtrace
