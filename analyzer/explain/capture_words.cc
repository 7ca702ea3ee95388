#include "analyzer/explain/capture_words.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "analyzer/explain/evidence.h"
#include "analyzer/units.h"

namespace uvmtrace::analyzer {
namespace {

bool Lost(const Capture& capture, const std::string& source) {
  return std::any_of(capture.lost().begin(), capture.lost().end(), [&source](const LostRow& row) {
    return row.source() == source && !IsMissingBytes(row) && row.count() > 0;
  });
}

}  // namespace

const SourceRow* SourceOf(const Capture& capture, const std::string& name, const std::string& state) {
  for (const SourceRow& row : capture.sources()) {
    if (row.name() == name && row.state() == state) return &row;
  }
  return nullptr;
}

const LostRow* MissingBytesOf(const Capture& capture) {
  for (const LostRow& row : capture.lost()) {
    if (IsMissingBytes(row)) return &row;
  }
  return nullptr;
}

bool LostOnTheWayToTheFile(const Capture& capture) { return capture.bad_chunks() > 0 || Lost(capture, "migrations"); }

bool IsMissingBytes(const LostRow& row) { return row.reason().rfind("bytes that ", 0) == 0; }

const AccountRow* AccountOf(const Report& report, const std::string& quantity) {
  for (const AccountRow& row : report.capture().accounts()) {
    if (row.quantity() == quantity && row.has_captured()) return &row;
  }
  return nullptr;
}

std::string CompletenessSentence(const Report& report) {
  const Capture& capture = report.capture();
  const LostRow* missing = MissingBytesOf(capture);
  if (missing == nullptr) return "";
  // Of the missing bytes: a surplus of the other direction makes up for none of them.
  const uint64_t exact = capture.exact_host_to_device_bytes() + capture.exact_device_to_host_bytes();
  const double share = 1 - Share(missing->count(), exact);
  if (capture.has_reconstruction()) {
    return fmt::format(
        "The recorded faults explain only {:.2f} % of the bytes that the driver moved: rows below are off by {}.",
        100 * capture.reconstruction().explained_share(), FormatBytes(missing->count()));
  }
  const bool queue = missing->source() == "driver_queue";
  if (queue && (share >= kCompleteShare || missing->count() <= kNegligibleBytes)) return "";
  const bool ours = queue || LostOnTheWayToTheFile(capture);
  std::string sentence = fmt::format("{} only {} of the bytes that the driver moved: rows below miss {}.",
                                     ours ? "The trace holds" : "CUPTI delivered",
                                     share < 0.99 ? FormatPercent(share) : fmt::format("{:.2f} %", 100 * share),
                                     FormatBytes(missing->count()));
  if (queue) {
    // Only a count of dropped events says that a queue ran over.
    if (Lost(capture, "driver_queue")) {
      return sentence + " The driver's event queue ran over: a larger UVMTRACE_BUFFER_MB holds more.";
    }
    if (!capture.clean_end()) return sentence + " The trace has no end: its last part is missing.";
    return sentence;
  }
  if (ours) return sentence;
  if (SourceOf(capture, "cupti.flush", "active") != nullptr) {
    sentence += " A blocking call, such as cudaMemcpy, held up CUPTI while pages faulted";
  } else {
    sentence +=
        " Its queue in the driver ran over; most often a blocking call, such as cudaMemcpy, holds up CUPTI while "
        "pages fault";
  }
  const bool kernels_off = SourceOf(capture, "cupti.kernels", "disabled") != nullptr;
  return sentence + (kernels_off ? "." : "; UVMTRACE_KERNELS=0 avoids most of it.");
}

std::string LostFaultsSentence(const Report& report) {
  // CUPTI merges the faults of one page and batch to a group, and so tells of fewer than the driver counts; up to 70 to
  // one where nothing was lost. What is beyond that can only be missing.
  constexpr uint64_t kMostFaultsOfAGroup = 100;
  const Totals& totals = report.totals();
  if (!totals.has_gpu_fault_groups() || totals.has_gpu_fault_entries() || !totals.has_gpu_faults()) return "";
  if (totals.gpu_faults() <= kMostFaultsOfAGroup * std::max<uint64_t>(totals.gpu_fault_groups(), 1)) return "";
  return fmt::format(
      "Most GPU faults are missing: CUPTI told of {} fault groups, and the driver counted {} faults. What is said of "
      "batches, of the time that the GPU waited, and of faults by line and kernel is a small part of the truth.",
      FormatCount(totals.gpu_fault_groups()), FormatCount(totals.gpu_faults()));
}

std::string SourceSentence(const Report& report) {
  const Capture& capture = report.capture();
  if (!capture.has_exact_host_to_device_bytes()) return "";
  const Totals& totals = report.totals();
  if (totals.host_to_device_bytes() + totals.device_to_host_bytes() == 0) return "";
  std::string change;
  if (capture.detail_changes_size() > 0) {
    const DetailChangeRow& row = capture.detail_changes(capture.detail_changes_size() - 1);
    change = fmt::format(" From {} on the detail was {}{}.", FormatDuration(row.time_ns()), row.detail(),
                         row.reason().empty() ? "" : ": " + row.reason());
  }
  if (totals.estimated_size() > 0) {
    uint64_t captured = 0;
    for (const char* quantity : {"host_to_device_bytes", "device_to_host_bytes"}) {
      if (const AccountRow* row = AccountOf(report, quantity)) captured += row->captured();
    }
    const uint64_t exact = capture.exact_host_to_device_bytes() + capture.exact_device_to_host_bytes();
    return fmt::format(
               "Bytes in all are the driver's own exact count; causes and allocations are estimated from the {} of "
               "them that were recorded.",
               FormatPercent(Share(captured, exact))) +
           change;
  }
  if (capture.has_reconstruction() && CompletenessSentence(report).empty()) {
    return fmt::format(
               "What moved is reconstructed from the recorded faults; that explains {:.2f} % of the bytes that "
               "the driver itself counted.",
               100 * capture.reconstruction().explained_share()) +
           change;
  }
  const AccountRow* bytes = AccountOf(report, "host_to_device_bytes");
  if (bytes == nullptr) {
    return "Bytes are the driver's own exact count; which memory moved, and why, was not recorded." + change;
  }
  if (!capture.has_delivered_share() || !CompletenessSentence(report).empty()) return "";
  std::string sentence = fmt::format("The trace holds {:.2f} % of the bytes that the driver itself counted",
                                     100 * capture.delivered_share());
  const AccountRow* entries = AccountOf(report, "gpu_fault_entries");
  const bool every_entry = entries != nullptr && entries->exact() > 0 && entries->captured() == entries->exact();
  if (every_entry) sentence += " and every entry of the GPU's fault buffer";
  sentence += bytes->source() == "driver_queue" ? ", from the driver's event queue" : ", from CUPTI";
  return sentence + "." + change;
}

std::string LossSentence(const Report& report) {
  const Capture& capture = report.capture();
  std::vector<std::string> parts;
  uint64_t lost = 0;
  const LostRow* worst = nullptr;
  for (const LostRow& row : capture.lost()) {
    if (IsMissingBytes(row)) continue;  // has a sentence of its own
    lost += row.count();
    if (worst == nullptr || row.count() > worst->count()) worst = &row;
  }
  if (lost > 0) {
    parts.push_back(fmt::format("{} events were lost while recording (most of {}: {}), so numbers are lower bounds",
                                FormatCount(lost), worst->source(), worst->reason()));
  }
  if (capture.bad_chunks() > 0) {
    parts.push_back(fmt::format("{} chunks of the trace are damaged or missing", FormatCount(capture.bad_chunks())));
  }
  if (!capture.clean_end()) {
    parts.push_back(
        "the trace has no end: the program was killed, or still runs, or the file is a cut copy. Of a program that was "
        "killed at most the last 100 ms are missing, of a cut copy everything behind the cut");
  }
  if (parts.empty()) return "";
  std::string sentence;
  for (size_t i = 0; i < parts.size(); ++i) sentence += (i > 0 ? "; " : "") + parts[i];
  return Capitalized(sentence) + ".";
}

}  // namespace uvmtrace::analyzer
