// Holds reconstructed migrations against recorded ones: drops the migrations of full traces, reconstructs them from the
// faults, and compares the bytes of every 2 MiB block, source, destination and cause.
//
//   reconstruct_compare [--verbose] [--allow BYTES] TRACE...
// Exit status: 0 if no trace is off by more than BYTES (0), 1 if one is, 2 if one cannot be read or recorded nothing.
#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <map>
#include <string>
#include <tuple>

#include "analyzer/read/chunk_reader.h"
#include "analyzer/reconstruct/trace_input.h"

namespace uvmtrace::reconstruct {
namespace {

constexpr uint64_t kBlockBytes = uint64_t{2} << 20;

using Key = std::tuple<uint64_t, int32_t, int32_t, int>;  // block, source, destination, cause
using Bytes = std::map<Key, uint64_t>;

const char* CauseName(int cause) {
  static constexpr const char* kNames[] = {"unknown", "user", "coherence", "prefetch", "eviction", "access counters"};
  return cause >= 0 && cause < 6 ? kNames[cause] : "?";
}

void Count(const Migration& migration, Bytes* bytes) {
  for (uint64_t address = migration.address, left = migration.bytes; left > 0;) {
    const uint64_t part = std::min(left, kBlockBytes - address % kBlockBytes);
    (*bytes)[{address / kBlockBytes, migration.source, migration.destination, static_cast<int>(migration.cause)}] +=
        part;
    address += part;
    left -= part;
  }
}

struct Difference {
  uint64_t recorded = 0;
  uint64_t reconstructed = 0;
  uint64_t wrong = 0;
};

// Sums over the blocks of what `group` makes of each key.
template <typename Group>
auto Compare(const Bytes& recorded, const Bytes& reconstructed, Group group) {
  // Causes of the same block and direction may be grouped first, so that only what `group` tells apart can differ.
  std::map<std::pair<uint64_t, decltype(group(Key()))>, std::pair<uint64_t, uint64_t>> by_block;
  for (const auto& [key, bytes] : recorded) by_block[{std::get<0>(key), group(key)}].first += bytes;
  for (const auto& [key, bytes] : reconstructed) by_block[{std::get<0>(key), group(key)}].second += bytes;
  std::map<decltype(group(Key())), Difference> sums;
  for (const auto& [key, pair] : by_block) {
    Difference& sum = sums[key.second];
    sum.recorded += pair.first;
    sum.reconstructed += pair.second;
    sum.wrong += pair.first > pair.second ? pair.first - pair.second : pair.second - pair.first;
  }
  return sums;
}

// Bytes that are on the wrong block, direction or cause; negative if the trace cannot be read.
int64_t CompareTrace(const char* path, bool verbose) {
  Bytes recorded;
  Bytes reconstructed;
  Reconstructor reconstructor({}, [&](const Migration& migration) { Count(migration, &reconstructed); });
  TraceInput input(&reconstructor);
  uint64_t rows = 0;
  input.on_recorded = [&](const Migration& migration) {
    ++rows;
    Count(migration, &recorded);
  };
  analyzer::ChunkReader reader;
  if (const analyzer::Status status = reader.Open(path); !status.ok()) {
    std::fprintf(stderr, "%s\n", status.message().c_str());
    return -1;
  }
  const std::clock_t start = std::clock();
  analyzer::ChunkFrame frame;
  analyzer::Chunk chunk;
  while (reader.Next(&frame)) {
    if (!DecodeChunk(frame.fields, &chunk).ok()) {
      reader.RejectLast();
      continue;
    }
    input.Add(chunk);
  }
  reconstructor.Finish();
  // Of CPU, with reading and decoding the trace: the machine may be busy with other things.
  const double took_ns = static_cast<double>(std::clock() - start) * 1e9 / CLOCKS_PER_SEC;
  const Reconstructor::Statistics& statistics = reconstructor.statistics();
  std::printf("%s: %" PRIu64 " recorded migrations; %" PRIu64 " services, %" PRIu64 " stale pages, %" PRIu64
              " evicted blocks, %" PRIu64 " unexplained faults; %.2f %% of the counted bytes explained\n",
              path, rows, statistics.services, statistics.stale_pages, statistics.evicted_blocks,
              statistics.unexplained_faults, 100 * reconstructor.ExplainedShare());
  std::printf("  %" PRIu64 " fault entries, %.0f ns of CPU for each, the reading of the trace included\n",
              reconstructor.fault_entries(),
              took_ns / static_cast<double>(std::max<uint64_t>(1, reconstructor.fault_entries())));
  if (rows == 0) {
    std::printf("  it holds no recorded migrations to compare with\n");
    return -1;
  }
  const auto direction = [](const Key& key) { return std::make_pair(std::get<1>(key), std::get<2>(key)); };
  const auto cause = [](const Key& key) {
    return std::make_tuple(std::get<1>(key), std::get<2>(key), std::get<3>(key));
  };
  for (const auto& [key, sum] : Compare(recorded, reconstructed, direction)) {
    std::printf("  %2d -> %2d             recorded %13" PRIu64 "  from faults %13" PRIu64 "  wrong %13" PRIu64 "\n",
                key.first, key.second, sum.recorded, sum.reconstructed, sum.wrong);
  }
  int64_t wrong = 0;
  for (const auto& [key, sum] : Compare(recorded, reconstructed, cause)) {
    wrong += static_cast<int64_t>(sum.wrong);
    std::printf("    %2d -> %2d %-10s recorded %13" PRIu64 "  from faults %13" PRIu64 "  wrong %13" PRIu64 "\n",
                std::get<0>(key), std::get<1>(key), CauseName(std::get<2>(key)), sum.recorded, sum.reconstructed,
                sum.wrong);
  }
  if (verbose) {
    Bytes keys = recorded;
    keys.insert(reconstructed.begin(), reconstructed.end());
    for (const auto& [key, unused] : keys) {
      const auto in = [&key](const Bytes& bytes) { return bytes.contains(key) ? bytes.at(key) : 0; };
      if (in(recorded) == in(reconstructed)) continue;
      std::printf("      %" PRIx64 " %d -> %d %s: recorded %" PRIu64 ", from faults %" PRIu64 "\n",
                  std::get<0>(key) * kBlockBytes, std::get<1>(key), std::get<2>(key), CauseName(std::get<3>(key)),
                  in(recorded), in(reconstructed));
    }
  }
  return wrong;
}

int Main(int argc, char** argv) {
  bool verbose = false;
  int64_t allowed = 0;
  int result = 0;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--verbose") == 0) {
      verbose = true;
    } else if (std::strcmp(argv[i], "--allow") == 0 && i + 1 < argc) {
      allowed = std::strtoll(argv[++i], nullptr, 10);
    } else {
      const int64_t wrong = CompareTrace(argv[i], verbose);
      if (wrong < 0) return 2;
      if (wrong > allowed) result = 1;
    }
  }
  return result;
}

}  // namespace
}  // namespace uvmtrace::reconstruct

int main(int argc, char** argv) { return uvmtrace::reconstruct::Main(argc, argv); }
