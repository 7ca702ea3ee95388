// The nvidia-uvm driver's parameters: they decide batch sizes, prefetching and thrashing, so that a trace without them
// cannot be compared with another.
#pragma once

namespace uvmtrace {

// Tells each file of <root>/sys/module/nvidia_uvm/parameters as a parameter, and the source state "module_parameters".
void RecordModuleParameters(const char* root);

}  // namespace uvmtrace
