// All variants but "resident" keep at most two layers on the GPU: the one in use and the next one. The managed ones
// send a layer back by a prefetch to the CPU, because the driver itself evicts only when the GPU is full, and this GPU
// is not.
#include "examples/offload/variants.h"

#include <array>

#include "examples/common/managed_memory.h"
#include "examples/common/phase.h"
#include "examples/common/program.h"
#include "examples/offload/layer_kernel.h"

namespace offload {
namespace {

using examples::Check;

void FillLayer(const Model& model, uint32_t layer, uint32_t* weights) {
  for (uint64_t i = 0; i < model.layer_words(); ++i) weights[i] = WeightAt(model.seed, layer, i);
}

// Page-locked weights, for the variants that read or copy them.
class PinnedWeights {
 public:
  explicit PinnedWeights(const Model& model) {
    for (uint32_t layer = 0; layer < model.layers; ++layer) {
      void* address = nullptr;
      Check(cudaHostAlloc(&address, model.layer_bytes(), cudaHostAllocMapped), "cudaHostAlloc of a layer");
      layers_.emplace_back(address);
      FillLayer(model, layer, static_cast<uint32_t*>(address));
    }
  }
  void* layer(uint32_t index) const { return layers_[index].get(); }

 private:
  std::vector<examples::PinnedMemory> layers_;
};

// What vLLM's --cpu-offload-gb does since version 0.8.4 ("UVA"): the kernel reads page-locked memory where it is.
class ZeroCopy : public Variant {
 public:
  explicit ZeroCopy(const Model& model) : model_(model) {}
  void Load() override { weights_ = std::make_unique<PinnedWeights>(model_); }
  const uint32_t* Use(uint32_t layer, cudaStream_t) override {
    void* address = nullptr;
    Check(cudaHostGetDevicePointer(&address, weights_->layer(layer), 0), "cudaHostGetDevicePointer");
    traffic_.in_place_bytes += model_.layer_bytes();
    return static_cast<const uint32_t*>(address);
  }
  void AfterLaunch(uint32_t, uint32_t, cudaStream_t) override {}

 private:
  const Model model_;
  std::unique_ptr<PinnedWeights> weights_;
};

// Two buffers on the GPU: the copy engine fills one while the kernel reads the other.
class DoubleBuffer : public Variant {
 public:
  explicit DoubleBuffer(const Model& model) : model_(model) {}
  void Load() override {
    weights_ = std::make_unique<PinnedWeights>(model_);
    for (auto& buffer : buffers_) {
      void* address = nullptr;
      Check(cudaMalloc(&address, model_.layer_bytes()), "cudaMalloc of a buffer");
      buffer.reset(address);
    }
  }
  const uint32_t* Use(uint32_t layer, cudaStream_t stream) override {
    if (!copied_ahead_) StartCopy(layer);
    copied_ahead_ = false;
    Check(cudaStreamWaitEvent(stream, arrived_.get(), 0), "cudaStreamWaitEvent");
    return static_cast<const uint32_t*>(buffers_[current_].get());
  }
  void AfterLaunch(uint32_t, uint32_t next, cudaStream_t stream) override {
    Check(cudaEventRecord(read_[current_].get(), stream), "cudaEventRecord");
    current_ = 1 - current_;
    // The buffer of the next layer was read by the launch before this one.
    Check(cudaStreamWaitEvent(copies_.get(), read_[current_].get(), 0), "cudaStreamWaitEvent");
    StartCopy(next);
    copied_ahead_ = true;
  }

 private:
  void StartCopy(uint32_t layer) {
    Check(cudaMemcpyAsync(buffers_[current_].get(), weights_->layer(layer), model_.layer_bytes(),
                          cudaMemcpyHostToDevice, copies_.get()),
          "cudaMemcpyAsync of a layer");
    Check(cudaEventRecord(arrived_.get(), copies_.get()), "cudaEventRecord");
    traffic_.host_to_device_bytes += model_.layer_bytes();
  }

  const Model model_;
  std::unique_ptr<PinnedWeights> weights_;
  std::array<examples::DeviceMemory, 2> buffers_;
  examples::Stream copies_;
  examples::Event arrived_;
  std::array<examples::Event, 2> read_;
  int current_ = 0;
  bool copied_ahead_ = false;
};

enum class Way {
  kResident,    // everything stays on the GPU: what offloading is measured against
  kOnDemand,    // page faults
  kPrefetch,    // the next layer, on a second stream, while this one is used
  kReadMostly,  // page faults; the host keeps its copy, so a layer that leaves needs no way back
  kInPlace,     // preferred on the host and mapped by the GPU: managed memory that behaves like zero copy
};

class Managed : public Variant {
 public:
  Managed(const Model& model, Way way) : model_(model), way_(way) {}

  void Load() override {
    for (uint32_t layer = 0; layer < model_.layers; ++layer) {
      void* address = nullptr;
      Check(cudaMallocManaged(&address, model_.layer_bytes(), cudaMemAttachGlobal), "cudaMallocManaged of a layer");
      layers_.emplace_back(address);
      if (way_ == Way::kReadMostly) AdviseReadMostly(layer);
      if (way_ == Way::kInPlace) {
        examples::Advise(address, model_.layer_bytes(), cudaMemAdviseSetPreferredLocation, examples::kHost);
        examples::Advise(address, model_.layer_bytes(), cudaMemAdviseSetAccessedBy, /*device=*/0);
      }
      FillLayer(model_, layer, Words(layer));
    }
    if (way_ != Way::kResident) return;
    for (uint32_t layer = 0; layer < model_.layers; ++layer) {
      examples::Prefetch(Words(layer), model_.layer_bytes(), /*device=*/0, /*stream=*/nullptr);
      traffic_.host_to_device_bytes += model_.layer_bytes();
    }
    Check(cudaDeviceSynchronize(), "prefetching all layers");
  }

  const uint32_t* Use(uint32_t layer, cudaStream_t stream) override {
    switch (way_) {
      case Way::kInPlace:
        traffic_.in_place_bytes += model_.layer_bytes();
        break;
      case Way::kOnDemand:
      case Way::kReadMostly:
        traffic_.host_to_device_bytes += model_.layer_bytes();
        break;
      case Way::kPrefetch:
        if (!fetched_ahead_) StartPrefetch(layer);
        fetched_ahead_ = false;
        Check(cudaStreamWaitEvent(stream, arrived_.get(), 0), "cudaStreamWaitEvent");
        break;
      case Way::kResident:
        break;
    }
    return Words(layer);
  }

  void AfterLaunch(uint32_t layer, uint32_t next, cudaStream_t stream) override {
    if (way_ == Way::kResident || way_ == Way::kInPlace) return;
    if (way_ == Way::kPrefetch) {
      StartPrefetch(next);
      fetched_ahead_ = true;
    }
    if (way_ == Way::kReadMostly) {
      // A prefetch to the CPU would leave the GPU's copy: without the advice one copy remains, the host's.
      Check(cudaStreamSynchronize(stream), "waiting for the layer");
      examples::Advise(Words(layer), model_.layer_bytes(), cudaMemAdviseUnsetReadMostly, /*device=*/0);
      AdviseReadMostly(layer);
      return;
    }
    // Clean pages travel back too: the driver cannot tell that nobody wrote them.
    examples::Prefetch(Words(layer), model_.layer_bytes(), examples::kHost, stream);
    Check(cudaEventRecord(sent_back_.get(), stream), "cudaEventRecord");
    traffic_.device_to_host_bytes += model_.layer_bytes();
  }

 private:
  uint32_t* Words(uint32_t layer) { return static_cast<uint32_t*>(layers_[layer].get()); }

  void AdviseReadMostly(uint32_t layer) {
    examples::Advise(Words(layer), model_.layer_bytes(), cudaMemAdviseSetReadMostly, /*device=*/0);
  }

  void StartPrefetch(uint32_t layer) {
    // Of two layers, this one is still on its way back.
    Check(cudaStreamWaitEvent(prefetches_.get(), sent_back_.get(), 0), "cudaStreamWaitEvent");
    examples::Prefetch(Words(layer), model_.layer_bytes(), /*device=*/0, prefetches_.get());
    Check(cudaEventRecord(arrived_.get(), prefetches_.get()), "cudaEventRecord");
    traffic_.host_to_device_bytes += model_.layer_bytes();
  }

  const Model model_;
  const Way way_;
  std::vector<examples::ManagedMemory> layers_;
  examples::Stream prefetches_;
  examples::Event arrived_;
  examples::Event sent_back_;
  bool fetched_ahead_ = false;
};

template <Way way>
std::unique_ptr<Variant> MakeManaged(const Model& model) {
  return std::make_unique<Managed>(model, way);
}
template <typename Kind>
std::unique_ptr<Variant> MakePinned(const Model& model) {
  return std::make_unique<Kind>(model);
}

}  // namespace

const std::vector<VariantInfo>& Variants() {
  static const std::vector<VariantInfo> variants = {
      {"resident", true, "managed, all of it on the GPU", MakeManaged<Way::kResident>},
      {"zero-copy", false, "page-locked, read in place (vLLM's UVA offload)", MakePinned<ZeroCopy>},
      {"on-demand", true, "managed, by page faults", MakeManaged<Way::kOnDemand>},
      {"prefetch", true, "managed, the next layer prefetched", MakeManaged<Way::kPrefetch>},
      {"read-mostly", true, "managed, by page faults, read-mostly", MakeManaged<Way::kReadMostly>},
      {"in-place", true, "managed, preferred on the host, mapped by the GPU", MakeManaged<Way::kInPlace>},
      {"double-buffer", false, "page-locked, copied ahead of need", MakePinned<DoubleBuffer>},
  };
  return variants;
}

}  // namespace offload
