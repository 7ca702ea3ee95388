// The one place where an example's exceptions become an exit code.
#include "examples/common/program.h"

#include <cstdio>

namespace examples {

void Check(cudaError_t error, const std::string& what) {
  if (error == cudaSuccess) return;
  throw CudaError(what + ": " + cudaGetErrorName(error) + ": " + cudaGetErrorString(error));
}

int RunProgram(const char* name, int (*body)(int argc, char** argv), int argc, char** argv) {
  try {
    return body(argc, argv);
  } catch (const Refused& refused) {
    std::fflush(stdout);
    std::fprintf(stderr, "%s: refused: %s\n", name, refused.what());
    return kExitRefused;
  } catch (const std::exception& error) {
    std::fflush(stdout);
    std::fprintf(stderr, "%s: failed: %s\n", name, error.what());
    return kExitFailed;
  }
}

}  // namespace examples
