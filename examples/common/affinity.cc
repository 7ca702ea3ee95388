// Sources: sysfs-bus-pci (numa_node), sched_setaffinity(2), set_mempolicy(2); no libnuma, for two system calls.
#include "examples/common/affinity.h"

#include <cuda_runtime_api.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <fstream>
#include <sstream>
#include <vector>

#include "examples/common/program.h"

namespace examples {
namespace {

std::string ReadLine(const std::string& path) {
  std::string line;
  std::ifstream file(path);
  std::getline(file, line);
  return line;
}

// "0-3,8" as {0, 1, 2, 3, 8}.
std::vector<int> ParseList(const std::string& text) {
  std::vector<int> numbers;
  std::istringstream parts(text);
  for (std::string part; std::getline(parts, part, ',');) {
    int first = 0;
    int last = 0;
    const int count = std::sscanf(part.c_str(), "%d-%d", &first, &last);
    if (count < 1) continue;
    for (int number = first; number <= (count == 2 ? last : first); ++number) numbers.push_back(number);
  }
  return numbers;
}

// -1: the kernel does not know, as in a machine with one node and in many virtual ones.
int NodeOfGpu() {
  char bus_id[32] = "";
  Check(cudaDeviceGetPCIBusId(bus_id, sizeof(bus_id), 0), "cudaDeviceGetPCIBusId");
  std::string name = bus_id;
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
  const std::string node = ReadLine("/sys/bus/pci/devices/" + name + "/numa_node");
  return node.empty() ? -1 : std::stoi(node);
}

}  // namespace

std::string PinToNode(const std::string& where) {
  if (where == "none") return "host thread: not pinned";
  const int gpu_node = NodeOfGpu();
  const std::vector<int> nodes = ParseList(ReadLine("/sys/devices/system/node/online"));
  int node = std::max(gpu_node, 0);
  if (where == "away") {
    const auto other = std::find_if(nodes.begin(), nodes.end(), [&](int each) { return each != node; });
    if (other == nodes.end()) {
      throw Refused("--affinity away: this machine has one NUMA node, so no memory of it is away from the GPU");
    }
    node = *other;
  }
  cpu_set_t cores;
  CPU_ZERO(&cores);
  int count = 0;
  for (const int core : ParseList(ReadLine("/sys/devices/system/node/node" + std::to_string(node) + "/cpulist"))) {
    CPU_SET(core, &cores);
    ++count;
  }
  if (count == 0) throw Refused("--affinity " + where + ": NUMA node " + std::to_string(node) + " has no cores");
  if (sched_setaffinity(0, sizeof(cores), &cores) != 0) {
    throw Refused("--affinity " + where + ": sched_setaffinity was refused, a container may not give these cores");
  }
  // A container may forbid the memory policy; the first touch by a pinned thread then has the same effect.
  const unsigned long mask = 1ul << node;
  const bool bound = syscall(SYS_set_mempolicy, MPOL_BIND, &mask, sizeof(mask) * 8) == 0;
  return "host thread: on the " + std::to_string(count) + " cores of NUMA node " + std::to_string(node) +
         (gpu_node < 0 ? " (the kernel does not tell the GPU's node)"
                       : ", the GPU is on node " + std::to_string(gpu_node)) +
         (bound ? ", its memory too" : ", its memory by first touch");
}

}  // namespace examples
