#include "examples/paged_attention/reference.h"

#include <algorithm>
#include <cmath>

namespace paged {

std::vector<double> ReferenceRow(const Attention& attention, const Data& data, const std::vector<int>& table, int row,
                                 int head) {
  const int sequence = row / attention.kv_heads;
  const int kv_head = row % attention.kv_heads;
  const uint64_t query = (static_cast<uint64_t>(row) * kGroup + head) * kHeadSize;
  const auto element_of = [&](int token) {
    const int index = token / attention.block_tokens;
    const int block = attention.lookup == Lookup::kTable ? table[sequence * attention.blocks_per_sequence() + index]
                                                         : BlockWithoutTable(attention, sequence, index);
    return ElementOf(attention, block, kv_head, token % attention.block_tokens);
  };
  std::vector<double> scores(attention.tokens);
  double largest = -INFINITY;
  for (int token = 0; token < attention.tokens; ++token) {
    for (int d = 0; d < kHeadSize; ++d) {
      scores[token] += static_cast<double>(data.query_factor * ValueAt(query + d, data.query_seed)) *
                       ValueAt(element_of(token) + d, data.key_seed);
    }
    scores[token] /= std::sqrt(static_cast<double>(kHeadSize));
    largest = std::max(largest, scores[token]);
  }
  std::vector<double> output(kHeadSize);
  double sum = 0;
  for (int token = 0; token < attention.tokens; ++token) {
    const double weight = std::exp(scores[token] - largest);
    sum += weight;
    for (int d = 0; d < kHeadSize; ++d) output[d] += weight * ValueAt(element_of(token) + d, data.value_seed);
  }
  for (double& element : output) element /= sum;
  return output;
}

double RelativeError(const std::vector<double>& expected, const __half* found) {
  double largest = 0;
  double error = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double difference = std::abs(expected[i] - __half2float(found[i]));
    if (!(difference <= error)) error = difference;  // also of a NaN
    largest = std::max(largest, std::abs(expected[i]));
  }
  return error / largest;
}

}  // namespace paged
