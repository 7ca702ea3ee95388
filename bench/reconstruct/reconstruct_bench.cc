// What the analyzer's stage that reconstructs migrations costs, without the reading of the trace: CPU time for each
// fault entry, and memory that is kept.
//
//   uvmtrace_reconstruct_bench [--repeat N] TRACE...
//
// Every trace is read N times (9) with the stage and N times without it, in turns. Given are medians; the spread is
// that of single runs with the stage against the median without.
#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <vector>

#include "analyzer/read/chunk_reader.h"
#include "analyzer/reconstruct/trace_input.h"

namespace uvmtrace::reconstruct {
namespace {

double CpuNs() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

// Null: only reads. False if the trace cannot be read.
bool Read(const char* path, Reconstructor* reconstructor) {
  TraceInput input(reconstructor);
  analyzer::ChunkReader reader;
  if (!reader.Open(path).ok()) return false;
  analyzer::ChunkFrame frame;
  analyzer::Chunk chunk;
  while (reader.Next(&frame)) {
    if (DecodeChunk(frame.fields, &chunk).ok()) input.Add(chunk);
  }
  if (reconstructor != nullptr) reconstructor->Finish();
  return true;
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

bool Measure(const char* path, int repeat) {
  std::vector<double> reading;
  std::vector<double> both;
  uint64_t entries = 0;
  uint64_t rows = 0;
  Reconstructor::Statistics statistics;
  for (int i = 0; i < repeat; ++i) {
    double start = CpuNs();
    if (!Read(path, nullptr)) return false;
    reading.push_back(CpuNs() - start);
    rows = 0;
    start = CpuNs();
    Reconstructor reconstructor({}, [&rows](const Migration&) { ++rows; });
    Read(path, &reconstructor);
    both.push_back(CpuNs() - start);
    entries = reconstructor.fault_entries();
    statistics = reconstructor.statistics();
  }
  if (entries == 0) return true;
  const double without = Median(reading);
  const double n = static_cast<double>(entries);
  const auto [least, most] = std::minmax_element(both.begin(), both.end());
  const std::string name = std::strrchr(path, '/') == nullptr ? path : std::strrchr(path, '/') + 1;
  std::printf("| %s | %" PRIu64 " | %" PRIu64 " | %" PRIu64 " | %" PRIu64 " | %.0f | %.0f | %.0f to %.0f |\n",
              name.c_str(), entries, statistics.services, rows, statistics.runs, without / n,
              (Median(both) - without) / n, (*least - without) / n, (*most - without) / n);
  return true;
}

int Main(int argc, char** argv) {
  int repeat = 9;
  std::printf(
      "| trace | fault entries | services | migrations | replays | reading [ns/entry] | stage [ns/entry] | range |\n"
      "|---|---:|---:|---:|---:|---:|---:|---:|\n");
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--repeat") == 0 && i + 1 < argc) {
      repeat = std::max(1, std::atoi(argv[++i]));
    } else if (!Measure(argv[i], repeat)) {
      std::fprintf(stderr, "cannot read %s\n", argv[i]);
      return 1;
    }
  }
  return 0;
}

}  // namespace
}  // namespace uvmtrace::reconstruct

int main(int argc, char** argv) { return uvmtrace::reconstruct::Main(argc, argv); }
