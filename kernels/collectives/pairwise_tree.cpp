#include "kernels/collectives/pairwise_tree.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "configs/base/check.h"

namespace depthroute {

void sum_pairwise(std::span<const float* const> parts, int64_t count, float* sum) {
  constexpr int64_t kBlock = 2048;  // a few ranks' worth stays in the first-level cache
  const auto size = static_cast<int64_t>(parts.size());
  DR_CHECK(size > 0);
  const int64_t pairs = div_ceil(size, 2);
  std::vector<float> scratch(static_cast<size_t>(pairs * kBlock));
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t n = std::min(kBlock, count - begin);
    // The first level reads the parts, all others stay in the scratch.
    for (int64_t p = 0; p < pairs; ++p) {
      float* to = scratch.data() + p * kBlock;
      const float* a = parts[static_cast<size_t>(2 * p)] + begin;
      if (2 * p + 1 == size) {
        std::memcpy(to, a, static_cast<size_t>(n) * sizeof(float));
        continue;
      }
      const float* b = parts[static_cast<size_t>(2 * p + 1)] + begin;
      for (int64_t i = 0; i < n; ++i) to[i] = a[i] + b[i];
    }
    for_each_pair(pairs, [&](int64_t to, int64_t from) {
      float* a = scratch.data() + to * kBlock;
      const float* b = scratch.data() + from * kBlock;
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) a[i] += b[i];
    });
    std::memcpy(sum + begin, scratch.data(), static_cast<size_t>(n) * sizeof(float));
  }
}

}  // namespace depthroute
