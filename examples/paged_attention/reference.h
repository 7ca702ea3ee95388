// The answer, computed by the host in double precision from the same formula that filled the pools.
#pragma once

#include <cstdint>
#include <vector>

#include "examples/paged_attention/attention.h"

namespace paged {

struct Data {
  uint64_t key_seed, value_seed, query_seed;
  float query_factor;
};

// The output of one query head: `row` is sequence * kv_heads + KV head. `table` is the host's copy of the block table.
std::vector<double> ReferenceRow(const Attention& attention, const Data& data, const std::vector<int>& table, int row,
                                 int head);

// Largest difference in a head's output, as a share of its largest element.
double RelativeError(const std::vector<double>& expected, const __half* found);

}  // namespace paged
