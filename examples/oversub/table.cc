#include "examples/oversub/table.h"

#include <cinttypes>

#include "examples/common/host_memory.h"
#include "examples/oversub/mode.h"

namespace oversub {
namespace {

using examples::FormatBytes;

const char* Describe(Eviction eviction) {
  return eviction == Eviction::kDriver ? "by the driver" : "by the program, prefetching to the CPU";
}

const char* Describe(Pattern pattern) {
  switch (pattern) {
    case Pattern::kStrided:
      return "strided";
    case Pattern::kRandom:
      return "random";
    case Pattern::kPingPong:
      return "ping-pong";
    case Pattern::kSequential:
      break;
  }
  return "sequential";
}

void PrintPhase(FILE* out, const std::string& name, double seconds, const Traffic& traffic) {
  const uint64_t bytes = traffic.host_to_device_bytes + traffic.device_to_host_bytes;
  std::fprintf(out, "| %s | %.4f | %" PRIu64 " | %" PRIu64 " | %.2f |\n", name.c_str(), seconds,
               traffic.host_to_device_bytes, traffic.device_to_host_bytes,
               seconds > 0 ? static_cast<double>(bytes) / seconds / 1e9 : 0.0);
}

}  // namespace

void PrintPlan(FILE* out, const Plan& plan) {
  std::fprintf(out,
               "plan: m = %" PRIu64 " chunks of %s (%s in all), room for k = %" PRIu64
               ", %d cycles, %s, %s; managed chunks are evicted %s\n",
               plan.chunks, FormatBytes(plan.chunk_bytes).c_str(), FormatBytes(plan.total_bytes()).c_str(),
               plan.resident_chunks, plan.cycles, plan.readonly ? "read only" : "read and write",
               Describe(plan.pattern), Describe(plan.managed_eviction));
}

void PrintResult(FILE* out, const Plan& plan, const Result& result) {
  std::fprintf(out, "\n### %s\n\n", result.mode.c_str());
  std::fprintf(out, "| m | k | prefill [s] | 1st cycle [s] | 2nd cycle [s] | total [s] |\n");
  std::fprintf(out, "|---:|---:|---:|---:|---:|---:|\n");
  std::fprintf(out, "| %" PRIu64 " | %" PRIu64 " | %.4f | %.4f |", plan.chunks, plan.resident_chunks,
               result.prefill_seconds(), result.first_cycle_seconds());
  if (result.phases.size() > 2) {
    std::fprintf(out, " %.4f |", result.phases[2].seconds);
  } else {
    std::fprintf(out, " - |");
  }
  std::fprintf(out, " %.4f |\n\n", result.total_seconds());
  std::fprintf(out, "The 1st cycle includes the prefill; the total is the sum of all %d cycles.\n\n", plan.cycles);

  std::fprintf(out, "| phase | seconds | to the GPU [bytes] | to the host [bytes] | both [GB/s] |\n");
  std::fprintf(out, "|---|---:|---:|---:|---:|\n");
  for (const Phase& phase : result.phases) PrintPhase(out, phase.name, phase.seconds, phase.traffic);
  PrintPhase(out, "total", result.total_seconds(), result.total_traffic());
  if (plan.verify_host) {
    PrintPhase(out, "reading it all on the host", result.verify_host_seconds, result.verify_host_traffic);
  }
  std::fprintf(out,
               "\noutside these times: allocation %.4f s, page-locking %.4f s, initialisation by the host %.4f s\n",
               result.allocation_seconds, result.pinning_seconds, result.initialisation_seconds);
  std::fprintf(out, "data: ok (every word checked in every cycle%s)\n", plan.verify_host ? ", and by the host" : "");
}

examples::Row ToRow(const Plan& plan, const Result& result) {
  const Traffic traffic = result.total_traffic();
  const Traffic& verify = result.verify_host_traffic;
  examples::Row row;
  row.Set("mode", result.mode).Set("m", plan.chunks).Set("k", plan.resident_chunks);
  row.Set("pattern", std::string(Describe(plan.pattern))).Set("readonly", plan.readonly);
  row.Set("repetition", result.repetition).Set("chunk_bytes", plan.chunk_bytes);
  row.Set("prefill_seconds", result.prefill_seconds()).Set("first_cycle_seconds", result.first_cycle_seconds());
  if (result.phases.size() > 2) row.Set("second_cycle_seconds", result.phases[2].seconds);
  row.Set("total_seconds", result.total_seconds());
  row.Set("managed", IsManagedMode(result.mode));
  row.Set("host_to_device_bytes", traffic.host_to_device_bytes);
  row.Set("device_to_host_bytes", traffic.device_to_host_bytes + verify.device_to_host_bytes);
  row.Set("in_place_bytes", traffic.in_place_bytes);
  row.Set("allocation_seconds", result.allocation_seconds).Set("pinning_seconds", result.pinning_seconds);
  row.Set("initialisation_seconds", result.initialisation_seconds);
  return row;
}

void PrintSummary(FILE* out, const std::vector<examples::Row>& rows) {
  const auto number = [](const examples::Row& row, const char* name) {
    const examples::Value* value = row.Find(name);
    return value == nullptr ? 0.0 : std::get<double>(*value);
  };
  std::vector<examples::Row> table = examples::Summarise(rows, {"mode"});
  double pinned = 0;
  for (const examples::Row& row : table) {
    if (std::get<std::string>(*row.Find("mode")) == "pinned") pinned = number(row, "total_seconds");
  }
  for (examples::Row& row : table) {
    const double total = number(row, "total_seconds");
    if (pinned > 0) row.Set("of pinned", total / pinned);
    if (row.Find("total_seconds_low") == nullptr) continue;
    row.Set("total, range",
            examples::FormatSpread({total, number(row, "total_seconds_low"), number(row, "total_seconds_high")}));
  }
  std::fprintf(out, "\n### All modes\n");
  examples::PrintTable(out, table,
                       {"mode", "prefill_seconds", "first_cycle_seconds", "second_cycle_seconds", "total_seconds",
                        "of pinned", "total, range", "host_to_device_bytes", "device_to_host_bytes", "in_place_bytes"});
  std::fprintf(out, "\ndata: ok (every word checked in every cycle of every mode)\n");
}

}  // namespace oversub
