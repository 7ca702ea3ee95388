// Which libcupti to use: a process must not end up with two, and the one beside the loaded libcudart fits it best.
#pragma once

#include <cstddef>

namespace uvmtrace {

struct CuptiLibrary {
  void* handle = nullptr;
  char path[512] = {};     // the file, as the loader knows it
  int mapped_others = 0;   // further, different libcupti files that are mapped in this process
  char failure[512] = {};  // without a handle: what was tried, for the trace's reader
};

// Order: one that is mapped already; beside libcudart (cudart_path may be null); $CUDA_HOME and $CUDA_PATH;
// /usr/local/cuda; the loader's own path. In the simulator the loader's path comes first, for there lies the
// simulator's.
void FindCupti(const char* cudart_path, bool simulated, CuptiLibrary* library);

// The libcupti files in a text of the form of /proc/self/maps: writes the first one's path (empty if none) and returns
// how many different files there are. Apart from FindCupti for tests.
int FindMappedCupti(const char* maps_path, char* path, size_t path_size);

}  // namespace uvmtrace
