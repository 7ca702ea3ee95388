// The ways to hold a model's weights in host memory and use them on the GPU.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace offload {

struct Model {
  uint32_t layers = 0;
  uint32_t width = 0;  // a layer's weights are width * width 32-bit words
  uint64_t seed = 0;

  uint64_t layer_words() const { return static_cast<uint64_t>(width) * width; }
  uint64_t layer_bytes() const { return layer_words() * sizeof(uint32_t); }
};

// Bytes that a variant must move, counted while it runs.
struct Traffic {
  uint64_t host_to_device_bytes = 0;  // by migration or by copy, see Variant::migrates
  uint64_t device_to_host_bytes = 0;
  uint64_t in_place_bytes = 0;  // read by kernels over the link: no copy and no migration shows them
};

class Variant {
 public:
  virtual ~Variant() = default;

  // Writes all weights. Outside all timers, page-locking included.
  virtual void Load() = 0;

  // Enqueues what must happen before a kernel on `stream` may read the layer; returns where it finds the weights.
  virtual const uint32_t* Use(uint32_t layer, cudaStream_t stream) = 0;

  // The kernel on `layer` is enqueued; `next` will be the following one.
  virtual void AfterLaunch(uint32_t layer, uint32_t next, cudaStream_t stream) = 0;

  const Traffic& traffic() const { return traffic_; }

 protected:
  Traffic traffic_;
};

struct VariantInfo {
  const char* name;
  bool managed;
  const char* what;
  std::unique_ptr<Variant> (*make)(const Model&);
};
const std::vector<VariantInfo>& Variants();

}  // namespace offload
