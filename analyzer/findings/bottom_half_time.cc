// Where the driver's fault-servicing threads spent their time: every sample falls into exactly one part.
#include "analyzer/findings/bottom_half_time.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

#include "analyzer/findings/driver_symbols.h"
#include "analyzer/findings/sections.h"

namespace uvmtrace::analyzer {
namespace {

// The stacks of one thread in one process.
using Key = std::tuple<std::string, uint32_t, uint64_t>;  // host, tid, start

std::vector<std::string_view> FramesOf(const ProcessModel& process, uint32_t stack) {
  std::vector<std::string_view> frames;
  const auto definition = process.kernel_stacks.find(stack);
  if (definition == process.kernel_stacks.end()) return frames;
  for (const uint32_t id : definition->second) {
    const auto name = process.strings.find(id);
    frames.push_back(name == process.strings.end() ? std::string_view() : std::string_view(name->second));
  }
  return frames;
}

// Semicolons and newlines separate in folded stacks; a space stands before the count.
std::string Folded(std::string_view name) {
  std::string text(name.empty() ? "[unknown]" : name);
  for (char& c : text) {
    if (c == ';' || static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return text;
}

}  // namespace

std::vector<SampledDriverThread> SampledStacksOf(const Run& run) {
  struct Source {
    const ProcessModel* process = nullptr;
    uint32_t thread = 0;
    uint64_t samples = 0;
  };
  std::map<Key, Source> sources;
  for (const auto& process : run) {
    std::map<uint32_t, uint64_t> samples;
    for (const auto& [key, stack] : process->bottom_half_samples) {
      samples[static_cast<uint32_t>(key >> 32)] += stack.samples;
    }
    for (const auto& [thread, count] : samples) {
      const auto known = process->kernel_threads.find(thread);
      const KernelThreadDefinition definition =
          known == process->kernel_threads.end() ? KernelThreadDefinition{} : known->second.definition;
      Source& source =
          sources[{process->process ? process->process->host : "", definition.tid, definition.start_ticks}];
      if (source.process == nullptr || count > source.samples) source = {process.get(), thread, count};
    }
  }
  std::vector<SampledDriverThread> threads;
  for (const auto& [key, source] : sources) {
    SampledDriverThread thread;
    const auto known = source.process->kernel_threads.find(source.thread);
    if (known != source.process->kernel_threads.end()) {
      thread.name = known->second.definition.name;
      thread.device_uuid = known->second.definition.device_uuid;
    }
    if (thread.name.empty()) thread.name = "(unknown thread)";
    const auto& all = source.process->bottom_half_samples;
    for (auto stack = all.lower_bound(uint64_t{source.thread} << 32);
         stack != all.end() && stack->first >> 32 == source.thread; ++stack) {
      thread.stacks.push_back({FramesOf(*source.process, static_cast<uint32_t>(stack->first)), stack->second.samples,
                               stack->second.weight_ns});
    }
    threads.push_back(std::move(thread));
  }
  std::stable_sort(threads.begin(), threads.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return threads;
}

std::string WhyNoStacks(const Run& run) {
  for (const auto& process : run) {
    const auto source = process->sources.find("bh_samples");
    if (source == process->sources.end() || source->second.state == State::kActive) continue;
    const std::string& reason = source->second.reason;
    switch (source->second.state) {
      case State::kUnavailable:
        return "the driver's threads could not be sampled: " + (reason.empty() ? "no reason was recorded" : reason);
      case State::kDisabled:
        return "sampling the driver's threads was off" + (reason.empty() ? "" : ": " + reason);
      default:
        return reason.empty() ? "the driver's threads had no work while they were sampled" : reason;
    }
  }
  const bool active =
      std::any_of(run.begin(), run.end(), [](const auto& process) { return process->sources.count("bh_samples") > 0; });
  return active ? "the driver's threads used no CPU while they were sampled"
                : "the trace does not say that the driver's threads were sampled";
}

void AddBottomHalfTime(const Run& run, Report* report) {
  for (const SampledDriverThread& thread : SampledStacksOf(run)) {
    struct Part {
      uint64_t samples = 0;
      uint64_t weight_ns = 0;
    };
    std::array<Part, kDriverWorkCount> parts{};
    uint64_t samples = 0;
    uint64_t weight_ns = 0;
    for (const SampledStack& stack : thread.stacks) {
      Part& part = parts[static_cast<size_t>(ClassifyStack(stack.frames))];
      part.samples += stack.samples;
      part.weight_ns += stack.weight_ns;
      samples += stack.samples;
      weight_ns += stack.weight_ns;
    }
    std::vector<size_t> order;
    for (size_t i = 0; i < kDriverWorkCount; ++i) {
      if (parts[i].samples > 0) order.push_back(i);
    }
    // The two rows that say least come last.
    const auto vague = [](size_t i) { return i >= static_cast<size_t>(DriverWork::kOther); };
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
      return std::tuple(vague(a), parts[b].weight_ns, parts[b].samples) <
             std::tuple(vague(b), parts[a].weight_ns, parts[a].samples);
    });
    for (const size_t i : order) {
      BottomHalfTimeRow* row = report->add_bh_time();
      row->set_thread(thread.name);
      row->set_device_uuid(FormatUuid(thread.device_uuid));
      row->set_part(std::string(DriverWorkName(static_cast<DriverWork>(i))));
      row->set_samples(parts[i].samples);
      row->set_cpu_ns(parts[i].weight_ns);
      row->set_share(weight_ns > 0 ? static_cast<double>(parts[i].weight_ns) / static_cast<double>(weight_ns)
                                   : static_cast<double>(parts[i].samples) / static_cast<double>(samples));
    }
  }
  if (report->bh_time_size() == 0) AddEmptySection("bh_time", WhyNoStacks(run), report);
}

std::string FoldedStacks(const Run& run) {
  std::map<std::string, uint64_t> folded;
  for (const SampledDriverThread& thread : SampledStacksOf(run)) {
    for (const SampledStack& stack : thread.stacks) {
      std::string line = Folded(thread.name);
      if (stack.frames.empty()) line += ";[unknown]";
      for (auto frame = stack.frames.rbegin(); frame != stack.frames.rend(); ++frame) line += ";" + Folded(*frame);
      folded[line] += stack.samples;
    }
  }
  std::string text;
  for (const auto& [line, samples] : folded) text += fmt::format("{} {}\n", line, samples);
  return text;
}

}  // namespace uvmtrace::analyzer
