// Where the host's side of an experiment runs: near the GPU, or as far from it as the machine allows. The UVM blog post
// saw its pageable copies become several times slower when a device was chosen by CUDA_VISIBLE_DEVICES, and cured it
// with a pinned core: the cores that a process gets and the socket that the GPU hangs on are what differs.
#pragma once

#include <string>

namespace examples {

// `where` is "none", "near" or "away". Pins the calling thread to the cores of a NUMA node, and its memory to that
// node: the node of GPU 0 for "near", another one for "away". Returns a sentence on what was done. Throws Refused where
// this machine has no such node.
std::string PinToNode(const std::string& where);

}  // namespace examples
