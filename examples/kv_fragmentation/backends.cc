// The backends, from the simplest to the two that serve language models today: paged blocks (vLLM) and physical pages
// mapped under a request's own range of addresses (vAttention, kvcached).
#include <algorithm>

#include "examples/common/program.h"
#include "examples/common/virtual_memory.h"
#include "examples/kv_fragmentation/backend.h"

namespace fragmentation {
namespace {

using examples::Check;

View Contiguous(const Shape& shape, void* base, int capacity_tokens) {
  View view;
  view.base = static_cast<char*>(base);
  view.block_tokens = capacity_tokens;
  view.ranges = shape.ranges();
  view.token_bytes = shape.token_bytes();
  view.range_bytes = static_cast<uint64_t>(capacity_tokens) * shape.token_bytes();
  return view;
}

// Each request gets the room for its longest possible answer, all of it beforehand.
class Preallocated : public Backend {
 public:
  Preallocated(const Shape& shape, cudaStream_t) : shape_(shape) {
    void* address = nullptr;
    Check(cudaMalloc(&address, shape.requests * shape.most_request_bytes()), "cudaMalloc of all KV caches");
    memory_.reset(address);
    ++calls_;
  }
  void Grow(int, int, int) override {}
  void Retire(int) override {}
  View ViewOf(int slot) const override {
    return Contiguous(shape_, static_cast<char*>(memory_.get()) + slot * shape_.most_request_bytes(),
                      shape_.max_tokens);
  }
  Waste WasteOf(int, int tokens) const override { return {0, (shape_.max_tokens - tokens) * shape_.bytes_per_token()}; }

 private:
  const Shape shape_;
  examples::DeviceMemory memory_;
};

// An allocation for each request that grows by 256 tokens: a larger one, a copy, a free. From cudaMalloc, or from the
// stream-ordered pool, which keeps what is freed until the next synchronisation.
template <bool from_pool>
class Reallocated : public Backend {
 public:
  Reallocated(const Shape& shape, cudaStream_t stream) : shape_(shape), stream_(stream), caches_(shape.requests) {}
  ~Reallocated() override {
    for (const Cache& cache : caches_) {
      if (cache.address != nullptr) Free(cache.address);
    }
    cudaStreamSynchronize(stream_);
  }

  void Grow(int slot, int old_tokens, int tokens) override {
    Cache& cache = caches_[slot];
    if (tokens <= cache.tokens) return;
    const Cache old = cache;
    cache.tokens = std::min(shape_.max_tokens, (tokens + kStepTokens - 1) / kStepTokens * kStepTokens);
    cache.address = Allocate(cache.tokens * shape_.bytes_per_token());
    if (old.address == nullptr) return;
    const View from = Contiguous(shape_, old.address, old.tokens);
    const View to = Contiguous(shape_, cache.address, cache.tokens);
    for (int range = 0; range < shape_.ranges(); ++range) {
      Check(cudaMemcpyAsync(TokenAddress(to, 0, range, 0), TokenAddress(from, 0, range, 0),
                            static_cast<size_t>(old_tokens) * shape_.token_bytes(), cudaMemcpyDeviceToDevice, stream_),
            "moving a KV cache that has grown");
    }
    if (!from_pool) Check(cudaStreamSynchronize(stream_), "moving a KV cache that has grown");
    Free(old.address);
  }
  void Retire(int slot) override {
    Free(caches_[slot].address);
    caches_[slot] = {};
  }
  View ViewOf(int slot) const override { return Contiguous(shape_, caches_[slot].address, caches_[slot].tokens); }
  Waste WasteOf(int slot, int tokens) const override {
    return {0, (caches_[slot].tokens - tokens) * shape_.bytes_per_token()};
  }

 private:
  static constexpr int kStepTokens = 256;
  struct Cache {
    void* address = nullptr;
    int tokens = 0;
  };

  void* Allocate(uint64_t bytes) {
    void* address = nullptr;
    if (from_pool) {
      Check(cudaMallocAsync(&address, bytes, stream_), "cudaMallocAsync of a KV cache");
    } else {
      Check(cudaMalloc(&address, bytes), "cudaMalloc of a KV cache");
    }
    ++calls_;
    return address;
  }
  void Free(void* address) {
    if (from_pool) {
      cudaFreeAsync(address, stream_);
    } else {
      cudaFree(address);
    }
    ++calls_;
  }

  const Shape shape_;
  const cudaStream_t stream_;
  std::vector<Cache> caches_;
};

// A range of managed memory for the longest answer. Physical memory comes with the first touch, 2 MiB or less at a
// time.
class Managed : public Backend {
 public:
  Managed(const Shape& shape, cudaStream_t) : shape_(shape), caches_(shape.requests) {}
  void Grow(int slot, int, int) override {
    if (caches_[slot] != nullptr) return;
    void* address = nullptr;
    Check(cudaMallocManaged(&address, shape_.most_request_bytes(), cudaMemAttachGlobal), "cudaMallocManaged");
    caches_[slot].reset(address);
    ++calls_;
  }
  void Retire(int slot) override {
    caches_[slot].reset();
    ++calls_;
  }
  View ViewOf(int slot) const override { return Contiguous(shape_, caches_[slot].get(), shape_.max_tokens); }
  Waste WasteOf(int, int) const override { return {}; }  // the driver's pages: it shows as external

 private:
  const Shape shape_;
  std::vector<examples::ManagedMemory> caches_;
};

// One pool of blocks of a few tokens, and a table for each request.
template <int block_tokens>
class Paged : public Backend {
 public:
  Paged(const Shape& shape, cudaStream_t stream)
      : shape_(shape), stream_(stream), tables_(shape.requests), device_tables_(shape.requests) {
    const uint64_t blocks = static_cast<uint64_t>(shape.requests) * BlocksFor(shape.max_tokens);
    void* address = nullptr;
    Check(cudaMalloc(&address, blocks * BlockBytes()), "cudaMalloc of the block pool");
    pool_.reset(address);
    for (uint64_t block = blocks; block > 0; --block) free_blocks_.push_back(static_cast<int>(block - 1));
    for (auto& table : device_tables_) {
      Check(cudaMalloc(&address, BlocksFor(shape.max_tokens) * sizeof(int)), "cudaMalloc of a block table");
      table.reset(address);
    }
    calls_ = 1 + shape.requests;
  }
  void Grow(int slot, int, int tokens) override {
    std::vector<int>& table = tables_[slot];
    const size_t old_blocks = table.size();
    while (static_cast<int>(table.size()) < BlocksFor(tokens)) {
      table.push_back(free_blocks_.back());
      free_blocks_.pop_back();
    }
    if (table.size() == old_blocks) return;
    Check(cudaMemcpyAsync(static_cast<int*>(device_tables_[slot].get()) + old_blocks, table.data() + old_blocks,
                          (table.size() - old_blocks) * sizeof(int), cudaMemcpyHostToDevice, stream_),
          "new entries of a block table");
  }
  void Retire(int slot) override {
    free_blocks_.insert(free_blocks_.end(), tables_[slot].begin(), tables_[slot].end());
    tables_[slot].clear();
  }
  View ViewOf(int slot) const override {
    View view = Contiguous(shape_, pool_.get(), block_tokens);
    view.table = static_cast<const int*>(device_tables_[slot].get());
    view.block_bytes = BlockBytes();
    return view;
  }
  Waste WasteOf(int slot, int tokens) const override {
    return {tables_[slot].size() * BlockBytes() - tokens * shape_.bytes_per_token(), 0};
  }
  uint64_t AllocatedBytes(uint64_t) const override {
    uint64_t blocks = 0;
    for (const auto& table : tables_) blocks += table.size();
    return blocks * BlockBytes();
  }

 private:
  static int BlocksFor(int tokens) { return (tokens + block_tokens - 1) / block_tokens; }
  uint64_t BlockBytes() const { return block_tokens * shape_.bytes_per_token(); }

  const Shape shape_;
  const cudaStream_t stream_;
  examples::DeviceMemory pool_;
  std::vector<int> free_blocks_;
  std::vector<std::vector<int>> tables_;
  std::vector<examples::DeviceMemory> device_tables_;
};

// Each range of each request has addresses for the longest answer; 2 MiB pages are mapped as it grows.
class Mapped : public Backend {
 public:
  Mapped(const Shape& shape, cudaStream_t stream) : shape_(shape), stream_(stream), caches_(shape.requests) {
    const uint64_t page = memory_.granularity();
    range_bytes_ = (static_cast<uint64_t>(shape.max_tokens) * shape.token_bytes() + page - 1) / page * page;
    for (Cache& cache : caches_) {
      cache.address = memory_.ReserveRange(range_bytes_ * shape.ranges());
      ++calls_;
    }
  }
  ~Mapped() override {
    for (size_t slot = 0; slot < caches_.size(); ++slot) {
      Retire(static_cast<int>(slot));
      memory_.FreeRange(caches_[slot].address, range_bytes_ * shape_.ranges());
    }
  }
  void Grow(int slot, int, int tokens) override {
    Cache& cache = caches_[slot];
    for (; cache.pages < PagesFor(tokens); ++cache.pages) {
      for (int range = 0; range < shape_.ranges(); ++range) {
        const auto handle = memory_.Create(memory_.granularity());
        memory_.Map(AddressOf(cache, range, cache.pages), memory_.granularity(), handle);
        cache.handles.push_back(handle);
        calls_ += 3;  // create, map, set access
      }
    }
  }
  void Retire(int slot) override {
    Cache& cache = caches_[slot];
    cudaStreamSynchronize(stream_);  // nothing may be unmapped under a kernel
    for (uint64_t page = 0; page < cache.pages; ++page) {
      for (int range = 0; range < shape_.ranges(); ++range) {
        memory_.Unmap(AddressOf(cache, range, page), memory_.granularity());
        memory_.Release(cache.handles[page * shape_.ranges() + range]);
        calls_ += 2;
      }
    }
    cache.handles.clear();
    cache.pages = 0;
  }
  View ViewOf(int slot) const override {
    View view = Contiguous(shape_, reinterpret_cast<void*>(caches_[slot].address), shape_.max_tokens);
    view.range_bytes = range_bytes_;
    return view;
  }
  Waste WasteOf(int slot, int tokens) const override {
    return {caches_[slot].pages * memory_.granularity() * shape_.ranges() - tokens * shape_.bytes_per_token(), 0};
  }

 private:
  struct Cache {
    uint64_t address = 0;
    uint64_t pages = 0;  // of each range
    std::vector<examples::VirtualMemory::Handle> handles;
  };
  uint64_t PagesFor(int tokens) const {
    const uint64_t bytes = static_cast<uint64_t>(tokens) * shape_.token_bytes();
    return (bytes + memory_.granularity() - 1) / memory_.granularity();
  }
  uint64_t AddressOf(const Cache& cache, int range, uint64_t page) const {
    return cache.address + range * range_bytes_ + page * memory_.granularity();
  }

  const Shape shape_;
  const cudaStream_t stream_;
  const examples::VirtualMemory memory_;
  uint64_t range_bytes_ = 0;
  std::vector<Cache> caches_;
};

template <typename Kind>
std::unique_ptr<Backend> Make(const Shape& shape, cudaStream_t stream) {
  return std::make_unique<Kind>(shape, stream);
}

}  // namespace

const std::vector<BackendInfo>& Backends() {
  static const std::vector<BackendInfo> backends = {
      {"preallocated", false, Make<Preallocated>},
      {"malloc", false, Make<Reallocated<false>>},
      {"pool", false, Make<Reallocated<true>>},
      {"managed", true, Make<Managed>},
      {"paged-1", false, Make<Paged<1>>},
      {"paged-2", false, Make<Paged<2>>},
      {"paged-4", false, Make<Paged<4>>},
      {"paged-8", false, Make<Paged<8>>},
      {"paged-16", false, Make<Paged<16>>},
      {"paged-32", false, Make<Paged<32>>},
      {"vmm", false, Make<Mapped>},
  };
  return backends;
}

}  // namespace fragmentation
