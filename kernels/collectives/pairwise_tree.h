// The order in which deterministic sums over ranks are made: neighbours first, then neighbours of those, and
// what has no neighbour is carried up: ((x0 + x1) + (x2 + x3)) + x4. Of a power of two of parts each, trees
// nest: the sums of 2 ranks are the first level of the tree of 4.
#pragma once

#include <cstdint>
#include <span>

namespace depthroute {

/// add(i, j) for every addition x_i += x_j, in order; the sum is then in x_0.
template <typename Add>
void for_each_pair(int64_t parts, Add add) {
  for (int64_t stride = 1; stride < parts; stride *= 2)
    for (int64_t i = 0; i + stride < parts; i += 2 * stride) add(i, i + stride);
}

/// sum[i] = the tree over parts[p][i], i < count. One pass over memory; `sum` may be one of the parts.
void sum_pairwise(std::span<const float* const> parts, int64_t count, float* sum);

}  // namespace depthroute
