// What the recorder's tests share: a folder of their own, reading a trace back through libprotobuf, and the sums that
// must balance.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "record/chunk_format.h"
#include "record/crc32c.h"
#include "record/recorder.h"
#include "record_oracle/trace_oracle.pb.h"

namespace uvmtrace::testing {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = ::testing::TempDir() + "uvmtrace_record_XXXXXX";
    if (mkdtemp(name.data()) == nullptr) abort();
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code error;
    std::filesystem::permissions(path_, std::filesystem::perms::owner_all, error);
    std::filesystem::remove_all(path_, error);
  }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline std::string ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline void WriteFile(const std::string& path, const std::string& content) {
  std::ofstream(path, std::ios::binary) << content;
}

inline RecorderOptions Options(const std::string& path, uint64_t run_id = 0x1234567890abcdef,
                               size_t buffer_bytes = 64 << 20) {
  RecorderOptions options = {};
  options.path = path.c_str();
  options.run_id = run_id;
  options.buffer_bytes = buffer_bytes;
  options.detail = "full";
  return options;
}

// The bytes of each chunk, frame included. Stops at the first byte that does not belong to one.
inline std::vector<std::string> SplitChunks(const std::string& file) {
  std::vector<std::string> chunks;
  size_t at = 0;
  while (at + kChunkFrameBytes <= file.size() && static_cast<uint8_t>(file[at]) == kChunkTag) {
    uint64_t length = 0;
    for (int i = 0; i < 5; ++i) length |= uint64_t{static_cast<uint8_t>(file[at + 1 + i]) & 0x7fu} << (7 * i);
    if (at + kChunkBodyOffset + length > file.size()) break;
    chunks.push_back(file.substr(at, kChunkBodyOffset + length));
    at += kChunkBodyOffset + length;
  }
  return chunks;
}

// Parses the file and checks what holds for every trace: frames, CRCs, sequence numbers.
inline pb::Trace ReadTrace(const std::string& path) {
  const std::string file = ReadFile(path);
  pb::Trace trace;
  EXPECT_TRUE(trace.ParseFromString(file)) << path;
  const std::vector<std::string> chunks = SplitChunks(file);
  EXPECT_EQ(chunks.size(), static_cast<size_t>(trace.chunk_size()));
  size_t bytes = 0;
  for (size_t i = 0; i < chunks.size(); ++i) {
    bytes += chunks[i].size();
    EXPECT_EQ(trace.chunk(i).crc32c(),
              Crc32cSoftware(chunks[i].data() + kCheckedOffset, chunks[i].size() - kCheckedOffset));
    EXPECT_EQ(trace.chunk(i).sequence(), i);
  }
  EXPECT_EQ(bytes, file.size());
  return trace;
}

// A column that is absent is all zeros.
template <typename Column>
uint64_t At(const Column& column, int row) {
  return column.empty() ? 0 : static_cast<uint64_t>(column.Get(row));
}

template <typename Column>
std::vector<uint64_t> Undelta(const Column& column, int rows) {
  std::vector<uint64_t> values(rows, 0);
  uint64_t value = 0;
  for (int i = 0; i < rows && i < column.size(); ++i) {
    value += static_cast<uint64_t>(column.Get(i));
    values[i] = value;
  }
  return values;
}

struct Totals {
  uint64_t api_calls = 0;
  uint64_t gpu_faults = 0;
  uint64_t migrations = 0;
  std::map<std::string, uint64_t> lost;                                    // by source
  std::map<std::pair<std::string, std::string>, uint64_t> lost_by_reason;  // by source and reason
  bool clean_end = false;
};

inline Totals Count(const pb::Trace& trace) {
  Totals totals;
  for (const pb::Chunk& chunk : trace.chunk()) {
    for (const pb::ApiCalls& calls : chunk.api_calls()) totals.api_calls += calls.start_delta_ns_size();
    for (const pb::GpuFaults& faults : chunk.gpu_faults()) totals.gpu_faults += faults.start_delta_ns_size();
    for (const pb::Migrations& migrations : chunk.migrations()) totals.migrations += migrations.start_delta_ns_size();
    for (const pb::Loss& loss : chunk.loss()) {
      totals.lost[loss.source()] += loss.count();
      totals.lost_by_reason[{loss.source(), loss.reason()}] += loss.count();
    }
    totals.clean_end |= chunk.has_end() && chunk.end().clean();
  }
  return totals;
}

// Runs `body` in a forked child and returns its wait status. The child leaves by _exit: 0, or 1 if an expectation
// failed.
template <typename Body>
int InChild(Body&& body) {
  const pid_t child = fork();
  if (child == 0) {
    Recorder::Get().AbandonAfterFork();
    body();
    fflush(stdout);
    _exit(::testing::Test::HasFailure() ? 1 : 0);
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return status;
}

inline bool ExitedWell(int status) { return WIFEXITED(status) && WEXITSTATUS(status) == 0; }

// One recording into a folder of its own.
class RecorderTest : public ::testing::Test {
 protected:
  void Start(RecorderOptions options) { ASSERT_TRUE(Recorder::Get().Start(options)); }
  void Start() { Start(Options(path_)); }
  pb::Trace Finish() {
    EXPECT_TRUE(Recorder::Get().Close(10'000));
    return ReadTrace(path_);
  }
  void TearDown() override { Recorder::Get().Close(10'000); }

  TemporaryFolder folder_;
  std::string path_ = folder_ / "trace.pb";
};

// Values at both ends of every type, so that no narrowing or sign goes unseen.
inline std::vector<ApiCallEvent> ApiCallSamples() {
  std::vector<ApiCallEvent> events;
  ApiCallEvent call;
  events.push_back(call);
  call.start_ns = UINT64_MAX;
  call.duration_ns = UINT64_MAX;
  call.address = 0x7fff'ffff'ffff'f000;
  call.bytes = UINT64_MAX;
  call.other_address = UINT64_MAX;
  call.flags = UINT64_MAX;
  call.stream = UINT64_MAX;
  call.location = INT32_MIN;
  call.result = INT32_MIN;
  call.tid = UINT32_MAX;
  call.function = UINT16_MAX;
  call.driver_function = UINT16_MAX;
  call.memory_kind = MemoryKind::kReserved;
  call.door = Door::kCupti;
  events.push_back(call);
  call.start_ns = 5;
  call.address = 0;
  call.location = kCpu;
  call.result = INT32_MAX;
  call.tid = static_cast<uint32_t>(getpid());
  events.push_back(call);
  return events;
}

}  // namespace uvmtrace::testing
