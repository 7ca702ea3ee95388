#include "examples/oversub/table.h"

#include <cinttypes>
#include <sstream>

#include "examples/common/host_memory.h"

namespace oversub {
namespace {

using examples::FormatBytes;

const char* Describe(Eviction eviction) {
  return eviction == Eviction::kDriver ? "by the driver" : "by the program, prefetching to the CPU";
}

void PrintPhase(FILE* out, const std::string& name, double seconds, const Traffic& traffic) {
  const uint64_t bytes = traffic.host_to_device_bytes + traffic.device_to_host_bytes;
  std::fprintf(out, "| %s | %.4f | %" PRIu64 " | %" PRIu64 " | %.2f |\n", name.c_str(), seconds,
               traffic.host_to_device_bytes, traffic.device_to_host_bytes,
               seconds > 0 ? static_cast<double>(bytes) / seconds / 1e9 : 0.0);
}

std::string Quote(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    if (static_cast<unsigned char>(c) >= 0x20) quoted += c;
  }
  return quoted + "\"";
}

void WriteTraffic(std::ostream& out, const Traffic& traffic) {
  out << "\"host_to_device_bytes\": " << traffic.host_to_device_bytes
      << ", \"device_to_host_bytes\": " << traffic.device_to_host_bytes;
}

void WriteResult(std::ostream& out, const Result& result) {
  out << "    {\"mode\": " << Quote(result.mode) << ", \"prefill_seconds\": " << result.prefill_seconds()
      << ", \"first_cycle_seconds\": " << result.first_cycle_seconds();
  if (result.phases.size() > 2) out << ", \"second_cycle_seconds\": " << result.phases[2].seconds;
  out << ", \"total_seconds\": " << result.total_seconds() << ",\n     ";
  WriteTraffic(out, result.total_traffic());
  out << ",\n     \"allocation_seconds\": " << result.allocation_seconds
      << ", \"pinning_seconds\": " << result.pinning_seconds
      << ", \"initialisation_seconds\": " << result.initialisation_seconds << ",\n     \"phases\": [";
  for (size_t i = 0; i < result.phases.size(); ++i) {
    const Phase& phase = result.phases[i];
    out << (i == 0 ? "\n" : ",\n") << "       {\"name\": " << Quote(phase.name) << ", \"seconds\": " << phase.seconds
        << ", ";
    WriteTraffic(out, phase.traffic);
    out << "}";
  }
  out << "]";
  if (result.verify_host_seconds > 0) {
    out << ",\n     \"verify_host\": {\"seconds\": " << result.verify_host_seconds << ", ";
    WriteTraffic(out, result.verify_host_traffic);
    out << "}";
  }
  out << "}";
}

}  // namespace

void PrintPlan(FILE* out, const Plan& plan) {
  std::fprintf(out,
               "plan: m = %" PRIu64 " chunks of %s (%s in all), room for k = %" PRIu64
               ", %d cycles, %s; managed chunks are evicted %s\n",
               plan.chunks, FormatBytes(plan.chunk_bytes).c_str(), FormatBytes(plan.total_bytes()).c_str(),
               plan.resident_chunks, plan.cycles, plan.readonly ? "read only" : "read and write",
               Describe(plan.managed_eviction));
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

std::string ToJson(const examples::Machine& machine, const Plan& plan, const std::vector<Result>& results) {
  std::ostringstream out;
  out << "{\n  \"setup\": {\"gpu\": " << Quote(machine.gpu_name)
      << ", \"driver_version\": " << Quote(machine.driver_version) << ", \"cuda_version\": " << machine.cuda_version
      << ", \"runtime_version\": " << machine.runtime_version << ", \"free_bytes\": " << machine.free_bytes
      << ", \"total_bytes\": " << machine.total_bytes << ", \"host_available_bytes\": " << machine.host_available_bytes
      << ", \"simulated\": " << (machine.simulated ? "true" : "false") << "},\n";
  out << "  \"plan\": {\"m\": " << plan.chunks << ", \"k\": " << plan.resident_chunks
      << ", \"chunk_bytes\": " << plan.chunk_bytes << ", \"capacity_bytes\": " << plan.capacity_bytes
      << ", \"cycles\": " << plan.cycles << ", \"seed\": " << plan.seed
      << ", \"readonly\": " << (plan.readonly ? "true" : "false")
      << ", \"managed_eviction\": " << (plan.managed_eviction == Eviction::kDriver ? "\"driver\"" : "\"program\"")
      << "},\n";
  out << "  \"results\": [\n";
  for (size_t i = 0; i < results.size(); ++i) {
    WriteResult(out, results[i]);
    out << (i + 1 < results.size() ? ",\n" : "\n");
  }
  out << "  ]\n}\n";
  return out.str();
}

}  // namespace oversub
