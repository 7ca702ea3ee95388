#include "analyzer/whatif/what_if.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "analyzer/explain/evidence.h"
#include "analyzer/findings/site_names.h"
#include "analyzer/read/chunk_reader.h"
#include "analyzer/reconstruct/trace_input.h"
#include "analyzer/units.h"

namespace uvmtrace::analyzer {
namespace {

using reconstruct::Call;
using reconstruct::CallKind;
using reconstruct::Migration;
using reconstruct::MigrationCause;
using reconstruct::Reconstructor;
using reconstruct::Room;

// Clocks of kernels and of faults agree to this.
constexpr uint64_t kClockErrorNs = 100'000;
// Before what a prefetch is for, and so long that it counts as done when it returns.
constexpr uint64_t kAheadNs = 30'000;
constexpr uint64_t kCallNs = 20'000;

// What is added to a replay.
struct Additions {
  std::vector<Call> calls;
  std::vector<reconstruct::GpuFault> gpu_faults;
  std::vector<reconstruct::CpuFault> cpu_faults;
  reconstruct::Options options;
  bool keep_prefetcher = true;
};

struct Replayed {
  std::vector<Migration> rows;
  Reconstructor::Statistics statistics;
  uint64_t room_bytes = Room::kUnknown;
  uint64_t peak_bytes = 0;
};

Status Replay(const std::string& path, const Additions& additions, Replayed* replayed) {
  *replayed = {};
  ChunkReader reader;
  Status status = reader.Open(path);
  if (!status.ok()) return status;
  Reconstructor reconstructor(additions.options, [&](const Migration& row) { replayed->rows.push_back(row); });
  reconstruct::TraceInput input(&reconstructor);
  ChunkFrame frame;
  Chunk chunk;
  while (reader.Next(&frame)) {
    if (DecodeChunk(frame.fields, &chunk).ok()) {
      input.Add(chunk);
    } else {
      reader.RejectLast();
    }
  }
  status = reader.Finish();
  if (!status.ok()) return status;
  // Behind the trace's own parameters.
  if (!additions.keep_prefetcher) reconstructor.options().service.prefetch_enable = false;
  for (const Call& call : additions.calls) reconstructor.Add(call);
  for (const reconstruct::GpuFault& fault : additions.gpu_faults) reconstructor.Add(fault);
  for (const reconstruct::CpuFault& fault : additions.cpu_faults) reconstructor.Add(fault);
  reconstructor.Finish();
  replayed->statistics = reconstructor.statistics();
  replayed->room_bytes = reconstructor.RoomBytes(0);
  replayed->peak_bytes = reconstructor.peak_chunk_bytes();
  return status;
}

// What the rows of a replay moved, and its counts. Not its times.
Paging PagingOf(const Replayed& replayed) {
  Paging paging;
  paging.fault_entries = replayed.statistics.served_pages;
  paging.fault_batches = replayed.statistics.served_batches;
  paging.cpu_faults = replayed.statistics.cpu_services;
  for (const Migration& row : replayed.rows) {
    if (row.destination == reconstruct::kCpu) {
      paging.to_host_bytes += row.bytes;
      if (row.cause == MigrationCause::kEviction) paging.evicted_bytes += row.bytes;
    } else if (row.cause == MigrationCause::kUser) {
      paging.called_bytes += row.bytes;
    } else {
      paging.faulted_bytes += row.bytes;
    }
  }
  return paging;
}

Paging RecordedPaging(const Report& report) {
  Paging paging;
  const Totals& totals = report.totals();
  paging.fault_entries = totals.gpu_fault_entries();
  paging.fault_batches = totals.fault_batches();
  paging.cpu_faults = totals.cpu_faults();
  for (const MigrationRow& row : report.migrations()) {
    if (row.direction() != "host_to_device") continue;
    (row.cause() == "user" ? paging.called_bytes : paging.faulted_bytes) += row.bytes();
  }
  paging.to_host_bytes = totals.device_to_host_bytes();
  paging.evicted_bytes = totals.evicted_bytes();
  paging.stall_ns = totals.fault_service_ns();
  for (const BottomHalfRow& row : report.bh_threads()) paging.bh_ns += row.cpu_ns();
  return paging;
}

// Time of a batch: a part of its own, and a part for its bytes. Least squares over the recorded batches.
struct BatchCost {
  double batch_ns = 0;
  double byte_ns = 0;
  double Of(const Paging& paging) const {
    return batch_ns * static_cast<double>(paging.fault_batches) + byte_ns * static_cast<double>(paging.faulted_bytes);
  }
};

BatchCost FitBatches(const TraceRows& rows, const Replayed& unchanged) {
  std::unordered_map<uint32_t, uint64_t> bytes;
  for (const Migration& row : unchanged.rows) {
    if (row.batch != 0 && row.destination != reconstruct::kCpu) bytes[row.batch] += row.bytes;
  }
  double n = 0;
  double sum_x = 0;
  double sum_y = 0;
  double sum_xx = 0;
  double sum_xy = 0;
  for (const auto& [batch, span] : rows.batches) {
    if (span.end_ns <= span.first_ns) continue;
    const auto found = bytes.find(batch);
    const double x = found == bytes.end() ? 0 : static_cast<double>(found->second);
    const auto y = static_cast<double>(span.end_ns - span.first_ns);
    n += 1;
    sum_x += x;
    sum_y += y;
    sum_xx += x * x;
    sum_xy += x * y;
  }
  BatchCost cost;
  if (n == 0) return cost;
  const double spread = n * sum_xx - sum_x * sum_x;
  if (spread > 0) cost.byte_ns = std::max(0.0, (n * sum_xy - sum_x * sum_y) / spread);
  cost.batch_ns = (sum_y - cost.byte_ns * sum_x) / n;
  if (cost.batch_ns < 0) {
    cost.batch_ns = 0;
    cost.byte_ns = sum_x > 0 ? sum_y / sum_x : 0;
  }
  return cost;
}

double Error(uint64_t recorded, uint64_t told) {
  if (recorded == told) return 0;
  const auto difference = std::abs(static_cast<double>(recorded) - static_cast<double>(told));
  return difference / static_cast<double>(std::max<uint64_t>(recorded, 1));
}

class Questioner {
 public:
  Questioner(const Run& run, const Report& report, const SymbolOptions& symbols, Answer* answer, std::string* cause)
      : run_(run), report_(report), symbols_(symbols), answer_(answer), cause_(cause) {}

  bool Ask(const Question& question) {
    if (run_.size() != 1) return Refuse("what-if takes the trace of one process");
    const std::string path = run_.front()->file;
    if (!Read(ReadTraceRows(path, &rows_))) return false;
    if (rows_.faults.empty() && rows_.memory.empty()) return Refuse("this trace has no managed memory");
    Replayed found;
    if (!Read(Replay(path, {}, &found))) return false;
    answer_->evictions = found.statistics.evicted_blocks > 0;

    Additions as_it_is;
    as_it_is.options.hypothetical = true;
    as_it_is.options.room_bytes = answer_->evictions ? found.room_bytes : Room::kUnknown;
    Replayed unchanged;
    if (!Read(Replay(path, as_it_is, &unchanged))) return false;

    Additions additions = as_it_is;
    if (!Add(question, found, as_it_is, &additions)) return false;
    Replayed changed;
    if (!Read(Replay(path, additions, &changed))) return false;
    answer_->added_calls = additions.calls.size();
    Fill(question, found, unchanged, changed);
    return true;
  }

 private:
  bool Refuse(std::string cause) {
    *cause_ = std::move(cause);
    return false;
  }
  bool Read(const Status& status) { return status.ok() || Refuse(status.message()); }

  // Memory of a site: its key, or a part of its line.
  bool Find(const std::string& site, std::vector<ManagedSpan>* memory) {
    if (names_ == nullptr) {
      symbolizer_ = std::make_unique<Symbolizer>(symbols_);
      names_ = std::make_unique<SiteNames>(run_, symbolizer_.get());
    }
    const ProcessModel& process = *run_.front();
    std::set<uint32_t> stacks;
    std::set<std::string> known;
    const SiteMemories& sites = process.memory.table().sites();
    for (uint32_t i = 0; i < sites.size(); ++i) {
      if (sites[i].kind != MemoryKind::kManaged) continue;
      const std::string& key = names_->KeyOf(process, i);
      const std::string& text = names_->SiteOfKey(key);
      known.insert(text);
      if (key == site || text.find(site) != std::string::npos) stacks.insert(sites[i].stack);
    }
    for (const ManagedSpan& span : rows_.memory) {
      if (stacks.count(span.stack) != 0) memory->push_back(span);
    }
    if (!memory->empty()) return true;
    return Refuse(fmt::format("no managed memory of a site '{}'. There is: {}", site, fmt::join(known, "; ")));
  }

  bool Add(const Question& question, const Replayed& found, const Additions& as_it_is, Additions* additions) {
    for (const Question::Prefetch& prefetch : question.prefetches) {
      std::vector<ManagedSpan> memory;
      if (!Find(prefetch.site, &memory)) return false;
      if (!AddPrefetches(memory, prefetch.kernel, additions)) return false;
    }
    for (const Question::Advice& advice : question.advice) {
      std::vector<ManagedSpan> memory;
      if (!Find(advice.site, &memory)) return false;
      for (const ManagedSpan& span : memory) {
        if (!AddAdvice(span, advice.what, additions)) return false;
      }
    }
    if (!question.advice.empty()) {
      answer_->notes.push_back(
          "An access that found its page is in no trace: what is written later than its first fault is taken as read.");
    }
    for (const std::string& site : question.pinned) {
      std::vector<ManagedSpan> memory;
      if (!Find(site, &memory)) return false;
      for (const ManagedSpan& span : memory) {
        additions->options.left_out.push_back({span.address, span.address + span.bytes, span.from_ns, span.to_ns});
      }
      pinned_.insert(pinned_.end(), memory.begin(), memory.end());
    }
    if (question.capacity_bytes) {
      if (!answer_->evictions && *question.capacity_bytes < found.peak_bytes) {
        return Refuse(
            fmt::format("this trace shows no eviction, so what a GPU of {} would evict cannot be told: an "
                        "access that found its page is in no trace. Ask for {} or more",
                        FormatBytes(*question.capacity_bytes), FormatBytes(found.peak_bytes)));
      }
      additions->options.room_bytes = *question.capacity_bytes;
    }
    if (question.prefetch_off) {
      additions->keep_prefetcher = false;
      if (!AddPrefetchedPages(run_.front()->file, as_it_is, additions)) return false;
      answer_->notes.push_back(
          "Every page that the driver prefetched is taken as used: the faults are the most that there can be.");
    }
    return true;
  }

  void Prefetch(const ManagedSpan& span, int32_t device, uint64_t before_ns, Additions* additions) {
    Call call;
    call.kind = CallKind::kPrefetch;
    call.time_ns = std::max(span.from_ns + 1, before_ns > kAheadNs ? before_ns - kAheadNs : 0);
    call.duration_ns = kCallNs;
    call.processor = device;
    call.address = span.address;
    call.bytes = span.bytes;
    additions->calls.push_back(call);
  }

  // Before each kernel that faulted on an allocation, that allocation. Without kernels: before the first fault of a
  // GPU, and again before the first one after the CPU's.
  bool AddPrefetches(const std::vector<ManagedSpan>& memory, const std::string& kernel_name, Additions* additions) {
    if (!kernel_name.empty() && rows_.kernels.empty()) return Refuse("this trace has no kernels: leave out @KERNEL");
    bool any_kernel = kernel_name.empty();
    for (const ManagedSpan& span : memory) {
      std::vector<const FaultPoint*> faults;
      for (const FaultPoint& fault : rows_.faults) {
        if (span.Holds(fault.address, fault.time_ns)) faults.push_back(&fault);
      }
      if (rows_.kernels.empty()) {
        bool there = false;
        for (const FaultPoint* fault : faults) {
          if (fault->device >= 0 && !there) Prefetch(span, fault->device, fault->time_ns, additions);
          there = fault->device >= 0;
        }
        continue;
      }
      for (const KernelSpan& kernel : rows_.kernels) {
        if (!kernel_name.empty() && kernel.name.find(kernel_name) == std::string::npos) continue;
        any_kernel = true;
        const uint64_t from_ns = kernel.start_ns > kClockErrorNs ? kernel.start_ns - kClockErrorNs : 0;
        const auto first = std::find_if(faults.begin(), faults.end(), [&](const FaultPoint* fault) {
          return fault->device >= 0 && fault->time_ns >= from_ns && fault->time_ns <= kernel.end_ns;
        });
        if (first == faults.end()) continue;
        Prefetch(span, (*first)->device, std::min(kernel.start_ns, (*first)->time_ns), additions);
      }
    }
    return any_kernel || Refuse("no kernel of this trace has '" + kernel_name + "' in its name");
  }

  bool AddAdvice(const ManagedSpan& span, const std::string& what, Additions* additions) {
    Call call;
    call.kind = CallKind::kAdvise;
    call.time_ns = span.from_ns + 1;
    call.address = span.address;
    call.bytes = span.bytes;
    call.processor = 0;
    if (what == "read-mostly") {
      call.advice = reconstruct::Advice::kSetReadMostly;
    } else if (what == "preferred-gpu") {
      call.advice = reconstruct::Advice::kSetPreferredLocation;
    } else if (what == "preferred-host") {
      call.advice = reconstruct::Advice::kSetPreferredLocation;
      call.processor = reconstruct::kCpu;
    } else if (what == "accessed-by") {
      call.advice = reconstruct::Advice::kSetAccessedBy;
    } else {
      return Refuse("--advise takes SITE=read-mostly, preferred-host, preferred-gpu or accessed-by");
    }
    additions->calls.push_back(call);
    return true;
  }

  // Each page that a service was about would have faulted by itself. Moved or not: a first touch moves nothing.
  bool AddPrefetchedPages(const std::string& path, const Additions& as_it_is, Additions* additions) {
    Additions observed = as_it_is;
    observed.options.on_served = [additions](int32_t processor, uint64_t time_ns, uint32_t batch, uint64_t base,
                                             const uvm_model::PageMask& pages) {
      pages.ForEachRun([&](int first, int count) {
        for (int page = first; page < first + count; ++page) {
          const uint64_t address = base + static_cast<uint64_t>(page) * uvm_model::kPageBytes;
          if (processor == reconstruct::kCpu) {
            // As a writer: where the CPU only reads, what is told to come back to a GPU is too much.
            additions->cpu_faults.push_back({time_ns, address, 0, true});
          } else {
            additions->gpu_faults.push_back({time_ns, address, batch, processor, false});
          }
        }
      });
    };
    Replayed ignored;
    return Read(Replay(path, observed, &ignored));
  }

  // Each page that a GPU used is read once at least.
  uint64_t PinnedBytes(const Replayed& found) const {
    uint64_t bytes = 0;
    for (const Migration& row : found.rows) {
      if (row.destination == reconstruct::kCpu) continue;
      for (const ManagedSpan& span : pinned_) bytes += span.Holds(row.address, row.time_ns) ? row.bytes : 0;
    }
    return bytes;
  }

  void Fill(const Question& question, const Replayed& found, const Replayed& unchanged, const Replayed& changed) {
    answer_->recorded = RecordedPaging(report_);
    answer_->unchanged = PagingOf(unchanged);
    answer_->changed = PagingOf(changed);
    const Paging& recorded = answer_->recorded;
    answer_->bytes_error = std::max(Error(recorded.faulted_bytes + recorded.called_bytes,
                                          answer_->unchanged.faulted_bytes + answer_->unchanged.called_bytes),
                                    Error(recorded.to_host_bytes, answer_->unchanged.to_host_bytes));
    answer_->faults_error = Error(found.statistics.served_pages, unchanged.statistics.served_pages);

    // Entries come several for a page: as many for each as were recorded.
    const uint64_t pages = std::max<uint64_t>(unchanged.statistics.served_pages, 1);
    const double entries = static_cast<double>(recorded.fault_entries) / static_cast<double>(pages);
    for (Paging* paging : {&answer_->unchanged, &answer_->changed}) {
      paging->fault_entries = static_cast<uint64_t>(std::llround(static_cast<double>(paging->fault_entries) * entries));
    }
    answer_->changed.in_place_bytes = PinnedBytes(found);
    if (answer_->changed.in_place_bytes > 0) {
      answer_->notes.push_back(
          "Pinned memory is read over the link at each use; how often is in no trace, so its bytes "
          "are the least that there can be.");
    }
    // A batch holds so many entries at most.
    constexpr uint64_t kBatchEntries = 256;
    if (question.prefetch_off)
      answer_->changed.fault_batches =
          std::max(answer_->changed.fault_batches, answer_->changed.fault_entries / kBatchEntries);
    const auto rate = Evidence(report_).BulkRate();
    answer_->rate_known = rate.has_value() || question.link_bytes_per_second.has_value();
    answer_->rate_bytes_per_second = question.link_bytes_per_second ? *question.link_bytes_per_second
                                     : rate                         ? rate->bytes_per_second
                                                                    : 0;
    BatchCost cost = FitBatches(rows_, unchanged);
    // The recorded time is that of the union of batches.
    const double fitted = cost.Of(answer_->unchanged);
    const double scale = fitted > 0 ? static_cast<double>(recorded.stall_ns) / fitted : 0;
    cost.batch_ns *= scale;
    cost.byte_ns *= scale;
    answer_->unchanged.stall_ns = static_cast<uint64_t>(cost.Of(answer_->unchanged));
    if (question.link_bytes_per_second && rate) {
      cost.byte_ns = std::max(0.0, cost.byte_ns + 1e9 / *question.link_bytes_per_second - 1e9 / rate->bytes_per_second);
    }
    answer_->changed.stall_ns = static_cast<uint64_t>(cost.Of(answer_->changed));
    const double bh_share =
        recorded.stall_ns == 0 ? 0 : static_cast<double>(recorded.bh_ns) / static_cast<double>(recorded.stall_ns);
    for (Paging* paging : {&answer_->unchanged, &answer_->changed}) {
      paging->bh_ns = static_cast<uint64_t>(static_cast<double>(paging->stall_ns) * bh_share);
      if (answer_->rate_known && answer_->rate_bytes_per_second > 0) {
        paging->call_copy_ns = static_cast<uint64_t>(
            static_cast<double>(paging->called_bytes + paging->in_place_bytes) * 1e9 / answer_->rate_bytes_per_second);
      }
    }
  }

  const Run& run_;
  const Report& report_;
  const SymbolOptions& symbols_;
  Answer* const answer_;
  std::string* const cause_;
  TraceRows rows_;
  std::unique_ptr<Symbolizer> symbolizer_;
  std::unique_ptr<SiteNames> names_;
  std::vector<ManagedSpan> pinned_;
};

}  // namespace

bool AnswerQuestion(const Run& run, const Report& report, const SymbolOptions& symbols, const Question& question,
                    Answer* answer, std::string* cause) {
  *answer = {};
  return Questioner(run, report, symbols, answer, cause).Ask(question);
}

}  // namespace uvmtrace::analyzer
