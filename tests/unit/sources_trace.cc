// See sources_trace.h.
#include "tests/unit/sources_trace.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "proto/uvmtrace.pb.h"

namespace sources_test {
namespace {

// A column's value in row i; an absent column is all 0.
template <typename Column>
auto At(const Column& column, int i) -> std::decay_t<decltype(column.Get(0))> {
  return column.size() == 0 ? std::decay_t<decltype(column.Get(0))>{} : column.Get(i);
}

// Adds up a delta column.
template <typename Column>
int64_t Sum(const Column& column, int i) {
  int64_t sum = 0;
  for (int row = 0; row <= i && row < column.size(); ++row) sum += column.Get(row);
  return sum;
}

std::string Hex(const std::string& bytes) {
  static const char kDigits[] = "0123456789abcdef";
  std::string hex;
  for (unsigned char byte : bytes) {
    hex += kDigits[byte >> 4];
    hex += kDigits[byte & 15];
  }
  return hex;
}

void ReadEvents(const uvmtrace::Chunk& chunk, std::map<uint32_t, std::string>& strings, TraceContents* contents) {
  for (const auto& rows : chunk.gpu_faults()) {
    for (int i = 0; i < rows.start_delta_ns_size(); ++i) {
      contents->gpu_faults.push_back({Sum(rows.start_delta_ns(), i), At(rows.duration_ns(), i),
                                      static_cast<uint64_t>(Sum(rows.address_delta(), i)), At(rows.device(), i),
                                      At(rows.access(), i), At(rows.groups(), i), 0, At(rows.batch(), i), 0,
                                      rows.clock(), rows.source()});
    }
  }
  for (const auto& rows : chunk.cpu_faults()) {
    for (int i = 0; i < rows.start_delta_ns_size(); ++i) {
      contents->cpu_faults.push_back({Sum(rows.start_delta_ns(), i), 0,
                                      static_cast<uint64_t>(Sum(rows.address_delta(), i)), -1, At(rows.access(), i), 0,
                                      static_cast<uint64_t>(Sum(rows.pc_delta(), i)), 0, At(rows.tid(), i),
                                      rows.clock(), rows.source()});
    }
  }
  for (const auto& rows : chunk.migrations()) {
    for (int i = 0; i < rows.start_delta_ns_size(); ++i) {
      contents->migrations.push_back({Sum(rows.start_delta_ns(), i), At(rows.duration_ns(), i),
                                      static_cast<uint64_t>(Sum(rows.address_delta(), i)), At(rows.bytes(), i),
                                      At(rows.source_device(), i), At(rows.destination_device(), i),
                                      At(rows.cause(), i), rows.clock(), rows.source()});
    }
  }
  for (const auto& rows : chunk.replays()) {
    for (int i = 0; i < rows.time_delta_ns_size(); ++i) {
      contents->replays.push_back({Sum(rows.time_delta_ns(), i), At(rows.device(), i), At(rows.batch(), i)});
    }
  }
  for (const auto& rows : chunk.migration_windows()) {
    for (int i = 0; i < rows.start_delta_ns_size(); ++i) {
      contents->windows.push_back({Sum(rows.start_delta_ns(), i), At(rows.duration_ns(), i)});
    }
  }
  for (const auto& rows : chunk.region_events()) {
    for (int i = 0; i < rows.start_delta_ns_size(); ++i) {
      contents->regions.push_back({Sum(rows.start_delta_ns(), i), At(rows.duration_ns(), i), At(rows.bytes(), i),
                                   At(rows.kind(), i), At(rows.source_device(), i), At(rows.destination_device(), i),
                                   At(rows.cause(), i)});
    }
  }
  for (const auto& rows : chunk.copies()) {
    for (int i = 0; i < rows.start_delta_ns_size(); ++i) {
      contents->copies.push_back({At(rows.bytes(), i), At(rows.duration_ns(), i), At(rows.kind(), i),
                                  At(rows.source_memory(), i), At(rows.destination_memory(), i),
                                  At(rows.asynchronous(), i), At(rows.correlation(), i)});
    }
  }
  for (const auto& rows : chunk.synchronizations()) {
    for (int i = 0; i < rows.start_delta_ns_size(); ++i) {
      contents->synchronizations.push_back({At(rows.duration_ns(), i), At(rows.kind(), i)});
    }
  }
  for (const auto& rows : chunk.launches()) {
    for (int i = 0; i < rows.start_delta_ns_size(); ++i) {
      contents->launches.push_back({At(rows.tid(), i), At(rows.correlation(), i)});
    }
  }
  for (const auto& rows : chunk.kernels()) {
    for (int i = 0; i < rows.start_delta_ns_size(); ++i) {
      contents->kernels.push_back({Sum(rows.start_delta_ns(), i), At(rows.duration_ns(), i), At(rows.device(), i),
                                   At(rows.stream(), i), strings[At(rows.name(), i)]});
    }
  }
  for (const auto& rows : chunk.thread_samples()) {
    for (int i = 0; i < rows.time_delta_ns_size(); ++i) {
      contents->thread_samples.push_back(
          {Sum(rows.time_delta_ns(), i), At(rows.kernel_thread(), i), At(rows.cpu_ns(), i), At(rows.wait_ns(), i)});
    }
  }
  for (const auto& rows : chunk.process_samples()) {
    for (int i = 0; i < rows.time_delta_ns_size(); ++i) {
      contents->process_samples.push_back(
          {Sum(rows.time_delta_ns(), i), At(rows.user_ns(), i), At(rows.system_ns(), i), At(rows.tool_ns(), i)});
    }
  }
  for (const auto& rows : chunk.counter_samples()) {
    for (int i = 0; i < rows.time_delta_ns_size(); ++i) {
      contents->counter_samples.push_back({Sum(rows.time_delta_ns(), i), At(rows.host_to_device_bytes(), i),
                                           At(rows.device_to_host_bytes(), i), At(rows.cpu_faults(), i),
                                           At(rows.gpu_faults(), i), At(rows.processor(), i)});
    }
  }
  for (const auto& rows : chunk.tool_samples()) {
    for (int i = 0; i < rows.time_delta_ns_size(); ++i) {
      contents->tool_samples.push_back({Sum(rows.time_delta_ns(), i), At(rows.calls_ns(), i), At(rows.sampler_ns(), i),
                                        At(rows.bytes_written(), i)});
    }
  }
  for (const auto& rows : chunk.bottom_half_samples()) {
    for (int i = 0; i < rows.time_delta_ns_size(); ++i) {
      contents->bottom_half_samples.push_back({Sum(rows.time_delta_ns(), i), At(rows.kernel_thread(), i),
                                               At(rows.kernel_stack(), i), At(rows.weight_ns(), i)});
    }
  }
  for (const auto& rows : chunk.clock_samples()) {
    for (int i = 0; i < rows.monotonic_delta_ns_size(); ++i) {
      contents->clock_samples.push_back({Sum(rows.monotonic_delta_ns(), i), Sum(rows.realtime_delta_ns(), i),
                                         Sum(rows.cupti_delta_ns(), i), Sum(rows.monotonic_raw_delta_ns(), i)});
    }
  }
}

}  // namespace

TraceContents ReadTrace(const std::string& path) {
  TraceContents contents;
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << path;
  std::stringstream bytes;
  bytes << file.rdbuf();
  uvmtrace::Trace trace;
  EXPECT_TRUE(trace.ParseFromString(bytes.str())) << path;
  EXPECT_GT(trace.chunk_size(), 0);
  std::map<uint32_t, std::string> strings;
  for (const uvmtrace::Chunk& chunk : trace.chunk()) {
    for (const auto& string : chunk.string()) strings[string.id()] = string.value();
    for (const auto& parameter : chunk.parameter()) contents.parameters[parameter.name()] = parameter.value();
    for (const auto& loss : chunk.loss()) contents.losses[loss.source() + ": " + loss.reason()] += loss.count();
    for (const auto& state : chunk.source_state()) {
      contents.states[state.name()] = {state.state(), state.reason()};
      contents.history[state.name()].push_back(contents.states[state.name()]);
    }
    for (const auto& area : chunk.memory_area()) {
      contents.memory_areas.push_back({area.start(), area.end(), area.kind(), area.name(), area.seen_ns(), {}});
      for (int i = 0; i < area.node_size(); ++i) {
        contents.memory_areas.back().node_bytes[area.node(i)] = area.node_bytes(i);
      }
    }
    for (const auto& thread : chunk.thread()) contents.threads.push_back(thread.name());
    for (const auto& calls : chunk.api_calls()) contents.api_calls += static_cast<size_t>(calls.start_delta_ns_size());
    for (const auto& change : chunk.detail_change()) {
      contents.detail_changes.push_back({change.detail(), change.reason()});
    }
    for (const auto& thread : chunk.kernel_thread()) {
      contents.kernel_threads[thread.id()] = {thread.tid(), thread.start_ticks(), thread.name(), thread.role(),
                                              Hex(thread.device_uuid())};
    }
    for (const auto& stack : chunk.kernel_stack()) {
      EXPECT_EQ(contents.kernel_stacks.count(stack.id()), 0u) << "defined twice";
      for (const uint32_t frame : stack.frame()) contents.kernel_stacks[stack.id()].push_back(strings[frame]);
    }
    ReadEvents(chunk, strings, &contents);
  }
  return contents;
}

}  // namespace sources_test
