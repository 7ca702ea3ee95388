// What the simulated libcuda.so.1 tells to whoever asks for the symbol "uvmsim_host": that this is no real driver, and
// where its /proc and /sys lie. libuvmtrace.so looks the symbol up in the libcuda of the process; a real driver has
// none.
#pragma once

#include <stdint.h>

typedef struct UvmsimHost {
  uint32_t version;     // 1
  const char* profile;  // "a100-80g", "h200", "tiny"
  // A folder with proc/<tid>/{comm,stat,schedstat}, proc/driver/nvidia-uvm/gpus/ and sys/module/nvidia_uvm/parameters/
  // as the real driver would show them. It exists from the first device allocation or cuInit on.
  const char* root;
} UvmsimHost;

// extern "C" const UvmsimHost uvmsim_host;  in libcuda.so.1
