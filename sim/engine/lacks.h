// What a machine may lack, and the simulated one lacks where UVMTRACE_SIM_LACKS names it (words separated by commas),
// so that what is said about such machines can be tested without one.
#pragma once

#include <cstdlib>
#include <string_view>

namespace uvmsim {

enum class Lack { kGpu, kManagedMemory, kDeviceNode, kQueuePermission, kBranch, kCupti, kBottomHalf, kNvml };

struct LackName {
  Lack lack;
  std::string_view name;
};
inline constexpr LackName kLackNames[] = {
    {Lack::kGpu, "gpu"},                           // cuInit finds no device
    {Lack::kManagedMemory, "managed"},             // as on a virtual GPU
    {Lack::kDeviceNode, "device_node"},            // no /dev/nvidia-uvm-tools
    {Lack::kQueuePermission, "queue_permission"},  // it may not be opened
    {Lack::kBranch, "branch"},                     // a driver of a branch to come, which knows other requests
    {Lack::kCupti, "cupti"},                       // CUPTI refuses everything
    {Lack::kBottomHalf, "bh_threads"},             // no thread of the driver is visible in /proc
    {Lack::kNvml, "nvml"},                         // NVML does not start
};

inline std::string_view Lacks() {
  const char* const text = std::getenv("UVMTRACE_SIM_LACKS");
  return text == nullptr ? "" : text;
}

// Calls visit with each word of the list.
template <typename Visit>
void ForEachLack(std::string_view list, Visit visit) {
  while (!list.empty()) {
    const size_t comma = list.find(',');
    visit(list.substr(0, comma));
    list = comma == std::string_view::npos ? "" : list.substr(comma + 1);
  }
}

inline bool IsLacking(Lack lack) {
  bool lacking = false;
  ForEachLack(Lacks(), [&](std::string_view word) {
    for (const LackName& entry : kLackNames) lacking |= entry.lack == lack && entry.name == word;
  });
  return lacking;
}

}  // namespace uvmsim
