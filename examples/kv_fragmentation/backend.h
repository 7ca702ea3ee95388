// A backend is one way to give a growing KV cache its memory.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <string>
#include <vector>

#include "examples/kv_fragmentation/token_kernel.h"

namespace fragmentation {

struct Shape {
  int requests = 64;      // that live at the same time
  int max_tokens = 2048;  // of one request
  int layers = 4;
  int hidden = 1024;  // elements of a key or a value of a layer; two bytes each

  int ranges() const { return 2 * layers; }
  int token_bytes() const { return 2 * hidden; }  // in one range
  uint64_t bytes_per_token() const { return static_cast<uint64_t>(ranges()) * token_bytes(); }
  uint64_t most_request_bytes() const { return bytes_per_token() * max_tokens; }
};

// Where bytes are that hold no token. What the backend knows itself; the rest of what the device lost is external.
struct Waste {
  uint64_t internal_bytes = 0;     // rounding: no one else can use it, this request only by chance
  uint64_t reservation_bytes = 0;  // kept for tokens that the request may yet generate
};

// Requests are known by the number of the slot that they occupy, [0, Shape::requests).
class Backend {
 public:
  virtual ~Backend() = default;
  // Room for `tokens` tokens of the request in `slot`, which had `old_tokens` (0: it is new).
  virtual void Grow(int slot, int old_tokens, int tokens) = 0;
  virtual void Retire(int slot) = 0;
  virtual View ViewOf(int slot) const = 0;
  virtual Waste WasteOf(int slot, int tokens) const = 0;
  // Bytes that the device has lost to the requests, where the backend must tell because it took all of them beforehand.
  virtual uint64_t AllocatedBytes(uint64_t lost_device_bytes) const { return lost_device_bytes; }
  uint64_t calls() const { return calls_; }  // of CUDA, for memory

 protected:
  uint64_t calls_ = 0;
};

struct BackendInfo {
  std::string name;
  bool managed;
  std::unique_ptr<Backend> (*make)(const Shape&, cudaStream_t);
};
const std::vector<BackendInfo>& Backends();

}  // namespace fragmentation
