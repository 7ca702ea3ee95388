#include "analyzer/read/run_files.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <system_error>

#include "analyzer/read/chunk.h"
#include "analyzer/read/chunk_reader.h"

namespace uvmtrace::analyzer {
namespace {

namespace fs = std::filesystem;

struct Candidate {
  std::string path;
  uint64_t run_id = 0;
  uint64_t started_ns = 0;  // CLOCK_REALTIME
  uint32_t pid = 0;
};

// What the first chunk says. The frame is looked at before anything else is read: a folder may hold large files.
std::optional<Candidate> ReadStart(const std::string& path) {
  constexpr char kMagic[] = {'U', 'V', 'M', 'T', 'R', 'C', 0x01, 0x0a};
  constexpr size_t kMagicOffset = 7;
  char frame[kMagicOffset + sizeof(kMagic)];
  std::ifstream in(path, std::ios::binary);
  if (!in.read(frame, sizeof(frame)) || !std::equal(kMagic, kMagic + sizeof(kMagic), frame + kMagicOffset)) return {};
  ChunkReader reader;
  if (!reader.Open(path).ok()) return {};
  // Somebody else's file is not searched for chunks.
  ReadBudget budget;
  budget.Set(Spending::kChecksumBytes, 1);
  reader.SetBudget(&budget);
  ChunkFrame first;
  Chunk chunk;
  if (!reader.Next(&first) || !DecodeChunk(first.fields, &chunk).ok()) return {};
  return Candidate{path, first.run_id, chunk.process ? chunk.process->started_realtime_ns : 0,
                   chunk.process ? chunk.process->pid : 0};
}

std::vector<Candidate> ReadFolder(const fs::path& folder, std::error_code* error, size_t* empty_files = nullptr) {
  std::vector<Candidate> candidates;
  fs::directory_iterator entry(folder, *error);
  for (const fs::directory_iterator end; !*error && entry != end; entry.increment(*error)) {
    std::error_code of_entry;
    if (entry->symlink_status(of_entry).type() != fs::file_type::regular || entry->path().extension() == ".old")
      continue;
    if (empty_files != nullptr && entry->path().extension() == ".pb" && entry->file_size(of_entry) == 0) ++*empty_files;
    if (auto candidate = ReadStart(entry->path().string())) candidates.push_back(std::move(*candidate));
  }
  return candidates;
}

}  // namespace

Status FindNewestRun(const std::string& folder, RunFiles* found) {
  std::error_code error;
  found->empty_files = 0;
  const std::vector<Candidate> candidates = ReadFolder(folder, &error, &found->empty_files);
  if (error) return Status::Error(folder + ": " + error.message() + ". Name the trace files instead.");
  if (candidates.empty()) {
    return Status::Error(folder +
                         ": no trace is in this folder. Name one that holds what libuvmtrace.so wrote "
                         "(UVMTRACE_OUT), or the files.");
  }
  // A run is as old as its first process: a worker of yesterday's server may be younger than today's run.
  std::map<uint64_t, uint64_t> started_ns;
  for (const Candidate& candidate : candidates) {
    const auto [run, is_new] = started_ns.try_emplace(candidate.run_id, candidate.started_ns);
    if (!is_new) run->second = std::min(run->second, candidate.started_ns);
  }
  const auto newest = std::max_element(started_ns.begin(), started_ns.end(),
                                       [](const auto& left, const auto& right) { return left.second < right.second; });
  found->files.clear();
  for (const Candidate& candidate : candidates) {
    if (candidate.run_id == newest->first) found->files.push_back(candidate.path);
  }
  found->other_runs = candidates.size() - found->files.size();
  std::sort(found->files.begin(), found->files.end());
  return Status::Ok();
}

size_t CountSiblings(const std::string& path) {
  const auto own = ReadStart(path);
  if (!own) return 0;
  const fs::path folder = fs::path(path).parent_path();
  std::error_code error;
  const std::vector<Candidate> candidates = ReadFolder(folder.empty() ? "." : folder, &error);
  // A copy of the same trace, or the trace itself, is no other process.
  return static_cast<size_t>(std::count_if(candidates.begin(), candidates.end(), [&own](const Candidate& other) {
    return other.run_id == own->run_id && (other.pid != own->pid || other.started_ns != own->started_ns);
  }));
}

}  // namespace uvmtrace::analyzer
