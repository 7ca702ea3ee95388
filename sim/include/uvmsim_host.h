// What the simulated libcuda.so.1 tells to whoever asks for the symbol "uvmsim_host": that this is no real driver, and
// where its /proc and /sys lie. libuvmtrace.so looks the symbol up in the libcuda of the process; a real driver has
// none.
#pragma once

#include <stddef.h>
#include <stdint.h>

// The driver's tools interface, as /dev/nvidia-uvm-tools and /dev/nvidia-uvm offer it to ioctl: the same numbers,
// arguments and queue entries. A descriptor that open_device gives is a real one, may be polled, and is closed by
// close.
typedef struct UvmsimTools {
  int (*open_device)(void);                                          // -1 with errno
  size_t (*find_va_spaces)(int* descriptors, size_t capacity);       // descriptors of this process's address space
  int (*control)(int descriptor, unsigned long number, void* data);  // as ioctl: 0, or -1 with errno
} UvmsimTools;

typedef struct UvmsimHost {
  uint32_t version;     // 2
  const char* profile;  // "a100-80g", "h200", "tiny"
  // A folder with proc/<tid>/{comm,stat,schedstat}, proc/driver/nvidia-uvm/gpus/ and sys/module/nvidia_uvm/parameters/
  // as the real driver would show them. It exists from the first device allocation or cuInit on.
  const char* root;
  const UvmsimTools* tools;  // since version 2; null: this simulator has none
} UvmsimHost;

// extern "C" const UvmsimHost uvmsim_host;  in libcuda.so.1
