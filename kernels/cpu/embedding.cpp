#include <omp.h>

#include <algorithm>
#include <cstring>

#include "configs/base/check.h"
#include "kernels/cpu/kernels.h"

namespace depthroute::cpu {

void embedding_forward(int64_t n, int64_t d, const int32_t* tokens, const float* table, float* out) {
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < n; ++i) std::memcpy(out + i * d, table + tokens[i] * d, d * sizeof(float));
}

// A token may occur many times: each thread owns a range of columns and takes the tokens in order, so no two
// threads meet in one element and the order of additions is always the same.
void embedding_backward(int64_t n, int64_t d, const int32_t* tokens, const float* dout, float* dtable) {
  constexpr int64_t kCacheLine = 16;  // floats
  const int64_t blocks = div_ceil(d, kCacheLine);
#pragma omp parallel
  {
    const int64_t threads = omp_get_num_threads();
    const int64_t thread = omp_get_thread_num();
    const int64_t begin = blocks * thread / threads * kCacheLine;
    const int64_t end = std::min(d, blocks * (thread + 1) / threads * kCacheLine);
    for (int64_t i = 0; i < n && begin < end; ++i) {
      const float* from = dout + i * d;
      float* to = dtable + tokens[i] * d;
#pragma omp simd
      for (int64_t c = begin; c < end; ++c) to[c] += from[c];
    }
  }
}

}  // namespace depthroute::cpu
