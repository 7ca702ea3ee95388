// kv_fragmentation: how much memory k KV caches need, and how much they take.
//
// The experiment is the one of "Profile CUDA UVM Performance" (March 2024) whose results section is empty: k requests,
// each with a virtual range of its own; in every cycle a random group generates tokens, a random group is done and as
// many new ones come; compare the sum of the KV caches with the memory that the GPU has given. Here it runs with every
// usual way to allocate, and the difference is told apart:
//   internal      rounding inside of a block or page         reservation   room kept for tokens that may yet come
//   external      given by the device, and in no request: what the allocator keeps, and pages that it rounds up to
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <random>

#include "examples/common/host_clock.h"
#include "examples/common/host_memory.h"
#include "examples/common/options.h"
#include "examples/common/phase.h"
#include "examples/common/program.h"
#include "examples/common/rows.h"
#include "examples/kv_fragmentation/backend.h"

namespace {

using examples::Check;
using examples::Row;
using fragmentation::Shape;

uint64_t FreeBytes() {
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  Check(cudaMemGetInfo(&free_bytes, &total_bytes), "cudaMemGetInfo");
  return free_bytes;
}

// The load, the same for every backend: what happens to each slot is decided by the seed alone.
class Load {
 public:
  Load(const Shape& shape, uint64_t seed) : shape_(shape), random_(seed) {}
  int PromptTokens() { return Between(shape_.max_tokens / 64 + 1, shape_.max_tokens / 4); }
  int NewTokens() { return Between(1, std::max(2, shape_.max_tokens / 16)); }
  // A random quarter generates; a random sixteenth, one at least, is done.
  std::vector<int> Generating() { return Group(std::max(1, shape_.requests / 4)); }
  std::vector<int> Done() { return Group(std::max(1, shape_.requests / 16)); }

 private:
  int Between(int least, int most) { return std::uniform_int_distribution<int>(least, std::max(least, most))(random_); }
  std::vector<int> Group(int size) {
    std::vector<int> slots(shape_.requests);
    for (int i = 0; i < shape_.requests; ++i) slots[i] = i;
    std::shuffle(slots.begin(), slots.end(), random_);
    slots.resize(size);
    return slots;
  }

  const Shape shape_;
  std::mt19937_64 random_;
};

struct Request {
  uint64_t id = 0;  // never used twice: a cache that shows an earlier request's tokens is wrong
  int tokens = 0;
};

class Experiment {
 public:
  Experiment(const Shape& shape, const fragmentation::BackendInfo& info, uint64_t seed)
      : shape_(shape), info_(info), load_(shape, seed), free_before_(FreeBytes()), requests_(shape.requests) {
    backend_ = info.make(shape, stream_.get());
  }

  // One row for each cycle, and the summary as the last.
  std::vector<Row> Run(int cycles) {
    const examples::PhaseRange range(info_.name);
    for (int slot = 0; slot < shape_.requests; ++slot) Admit(slot);
    for (int cycle = 0; cycle < cycles; ++cycle) {
      for (const int slot : load_.Generating()) Generate(slot, load_.NewTokens());
      for (const int slot : load_.Done()) {
        Retire(slot);
        Admit(slot);
      }
      Measure(cycle);
    }
    for (int slot = 0; slot < shape_.requests; ++slot) Retire(slot);
    const unsigned long long wrong = tokens_.WrongWords(stream_.get());
    if (wrong != 0) throw examples::WrongData(info_.name + ": " + std::to_string(wrong) + " words of tokens are wrong");
    rows_.push_back(Summary());
    return rows_;
  }

 private:
  void Admit(int slot) {
    requests_[slot] = {next_id_++, 0};
    Generate(slot, load_.PromptTokens());
  }

  void Generate(int slot, int count) {
    Request& request = requests_[slot];
    const int tokens = std::min(shape_.max_tokens, request.tokens + count);
    const double start = examples::HostSeconds();
    backend_->Grow(slot, request.tokens, tokens);
    grow_us_.push_back((examples::HostSeconds() - start) * 1e6);
    tokens_.Write(backend_->ViewOf(slot), request.id, request.tokens, tokens, stream_.get());
    request.tokens = tokens;
  }

  void Retire(int slot) {
    tokens_.Verify(backend_->ViewOf(slot), requests_[slot].id, requests_[slot].tokens, stream_.get());
    Check(cudaStreamSynchronize(stream_.get()), "checking a request's tokens");
    backend_->Retire(slot);
  }

  void Measure(int cycle) {
    Check(cudaStreamSynchronize(stream_.get()), "the tokens of a cycle");
    uint64_t theoretical = 0;
    fragmentation::Waste waste;
    for (int slot = 0; slot < shape_.requests; ++slot) {
      theoretical += requests_[slot].tokens * shape_.bytes_per_token();
      const auto of_slot = backend_->WasteOf(slot, requests_[slot].tokens);
      waste.internal_bytes += of_slot.internal_bytes;
      waste.reservation_bytes += of_slot.reservation_bytes;
    }
    const uint64_t free_bytes = FreeBytes();
    const uint64_t lost = free_before_ > free_bytes ? free_before_ - free_bytes : 0;
    const uint64_t allocated = std::max(backend_->AllocatedBytes(lost), theoretical);
    const uint64_t known = theoretical + waste.internal_bytes + waste.reservation_bytes;
    Row row;
    row.Set("kind", std::string("curve")).Set("backend", info_.name).Set("cycle", static_cast<uint64_t>(cycle));
    row.Set("theoretical_bytes", theoretical).Set("allocated_bytes", allocated);
    row.Set("internal_bytes", waste.internal_bytes).Set("reservation_bytes", waste.reservation_bytes);
    row.Set("external_bytes", allocated > known ? allocated - known : uint64_t{0});
    rows_.push_back(row);
  }

  Row Summary() const {
    Row row;
    row.Set("kind", std::string("summary")).Set("backend", info_.name).Set("managed", info_.managed);
    row.Set("requests", next_id_);
    double allocated = 0;
    double theoretical = 0;
    for (const char* name :
         {"theoretical_bytes", "allocated_bytes", "internal_bytes", "external_bytes", "reservation_bytes"}) {
      double sum = 0;
      uint64_t peak = 0;
      for (const Row& each : rows_) {
        sum += static_cast<double>(std::get<uint64_t>(*each.Find(name)));
        peak = std::max(peak, std::get<uint64_t>(*each.Find(name)));
      }
      const double mean = sum / static_cast<double>(rows_.size());
      row.Set(std::string("mean MiB ") + name, mean / (1 << 20));
      if (std::string(name) == "allocated_bytes") row.Set("peak_allocated_bytes", peak);
      if (std::string(name) == "allocated_bytes") allocated = mean;
      if (std::string(name) == "theoretical_bytes") theoretical = mean;
    }
    row.Set("allocated / theoretical", allocated / theoretical);
    row.Set("grow p50 [us]", examples::Percentile(grow_us_, 50))
        .Set("grow p99 [us]", examples::Percentile(grow_us_, 99));
    return row.Set("calls", backend_->calls());
  }

  const Shape shape_;
  const fragmentation::BackendInfo info_;
  Load load_;
  const examples::Stream stream_;
  fragmentation::Tokens tokens_;
  const uint64_t free_before_;
  std::unique_ptr<fragmentation::Backend> backend_;
  std::vector<Request> requests_;
  uint64_t next_id_ = 0;
  std::vector<double> grow_us_;
  std::vector<Row> rows_;
};

int Main(int argc, char** argv) {
  CLI::App app("k KV caches that grow, end and begin: theoretical against allocated bytes, by way of allocating.");
  examples::CommonOptions options;
  Shape shape;
  int cycles = 0;
  std::vector<std::string> names;
  std::vector<std::string> known;
  for (const auto& info : fragmentation::Backends()) known.push_back(info.name);
  examples::AddCommonOptions(&app, &options, "Device memory for KV caches (default: what is free)");
  examples::AddChoiceOption(&app, "--backend", &names, known, "Ways to allocate");
  app.add_option("-k,--requests", shape.requests, "Requests at a time (default: 64, on the simulator 6)");
  app.add_option("--cycles", cycles, "Cycles (default: 200, on the simulator 12)");
  app.add_option("--max-tokens", shape.max_tokens, "Longest request")->capture_default_str();
  app.add_option("--layers", shape.layers, "Layers (default: 4, on the simulator 1)");
  app.add_option("--hidden", shape.hidden, "Elements of a key or value, a multiple of 4 (default: 1024)");
  const auto parsed = examples::Parse(&app, argc, argv);
  if (parsed != examples::ParseResult::kRun) {
    return parsed == examples::ParseResult::kStopOk ? examples::kExitOk : examples::kExitRefused;
  }

  const examples::Machine machine = examples::ReadMachine();
  FILE* const out = options.json_path == "-" ? stderr : stdout;
  std::fprintf(out, "%s\n", examples::SetupLine(machine).c_str());
  if (machine.simulated && app.count("--requests") == 0) shape.requests = 6;
  if (machine.simulated && app.count("--layers") == 0) shape.layers = 1;
  if (cycles == 0) cycles = machine.simulated ? 12 : 200;
  if (shape.requests < 1 || shape.layers < 1 || shape.hidden < 4 || shape.hidden % 4 != 0 || shape.max_tokens < 256) {
    throw examples::Refused("-k and --layers must be at least 1, --hidden a multiple of 4, --max-tokens at least 256");
  }
  const uint64_t most_bytes = shape.requests * shape.most_request_bytes();
  const uint64_t capacity = options.capacity_bytes == 0 ? machine.free_bytes : options.capacity_bytes;
  if (most_bytes > std::min(capacity, machine.free_bytes) && !options.allow_oversubscription) {
    throw examples::Refused(examples::FormatBytes(most_bytes) +
                            " for the longest requests do not fit; use a smaller -k, or insist with "
                            "--allow-oversubscription: drivers are known to hang in this");
  }
  examples::RequireDemandPaging();
  examples::RequireHostMemory(machine.simulated ? most_bytes : 0, "kv_fragmentation");
  std::fprintf(out, "load: %d requests of at most %d tokens, %s a token, %d cycles; preallocated they take %s\n",
               shape.requests, shape.max_tokens, examples::FormatBytes(shape.bytes_per_token()).c_str(), cycles,
               examples::FormatBytes(most_bytes).c_str());

  std::vector<Row> rows;
  std::vector<Row> summaries;
  for (int repetition = 0; repetition < options.repeat; ++repetition) {
    for (const auto& info : fragmentation::Backends()) {
      if (std::find(names.begin(), names.end(), info.name) == names.end()) continue;
      for (Row& row : Experiment(shape, info, options.seed).Run(cycles)) {
        row.Set("repetition", static_cast<uint64_t>(repetition));
        if (std::get<std::string>(*row.Find("kind")) == "summary") summaries.push_back(row);
        rows.push_back(row);
      }
    }
  }
  examples::PrintTable(out, examples::Summarise(summaries, {"backend"}),
                       {"backend", "allocated / theoretical", "mean MiB theoretical_bytes", "mean MiB allocated_bytes",
                        "mean MiB internal_bytes", "mean MiB external_bytes", "mean MiB reservation_bytes",
                        "grow p50 [us]", "grow p99 [us]", "calls"});
  std::fprintf(out, "\ndata: ok (every token of every request, when it ended)\n");
  examples::WriteJson(options.json_path, "kv_fragmentation", machine, rows);
  return examples::kExitOk;
}

}  // namespace

int main(int argc, char** argv) { return examples::RunProgram("kv_fragmentation", &Main, argc, argv); }
