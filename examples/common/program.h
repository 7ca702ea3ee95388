// How an example ends: 0, or a message on stderr and one of two exit codes, so that a script can tell "this machine or
// these arguments will not do" from "it ran, and something is wrong".
#pragma once

#include <cuda_runtime_api.h>

#include <stdexcept>
#include <string>

namespace examples {

enum ExitCode {
  kExitOk = 0,
  kExitFailed = 1,   // wrong data, or a CUDA call failed half-way
  kExitRefused = 2,  // bad arguments, no GPU, or more memory asked for than is safe: nothing was moved
};

// The program declines to start. The message says what to change.
class Refused : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

class CudaError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Memory does not hold what was written into it.
class WrongData : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Throws CudaError("<what>: <error name>: <description>") unless `error` is cudaSuccess.
void Check(cudaError_t error, const std::string& what);

// Runs `body` and turns what it throws into a message and an exit code.
int RunProgram(const char* name, int (*body)(int argc, char** argv), int argc, char** argv);

}  // namespace examples
