#include <omp.h>

#include <algorithm>
#include <cstring>

#include "configs/base/check.h"
#include "kernels/cpu/indices.h"
#include "kernels/op_table.h"

namespace depthroute::cpu {

void embedding_forward(Stream, const Tensor& tokens, const Tensor& table, const Tensor& out) {
  const int64_t n = out.rows(), d = out.cols();
  const int32_t* const token = checked_indices(tokens, 0, table.rows());
  const float* const from = table.data<float>();
  float* const to = out.data<float>();
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < n; ++i) std::memcpy(to + i * d, from + token[i] * d, d * sizeof(float));
}

// A token may occur many times: each thread owns a range of columns and takes the tokens in order, so no two
// threads write to one element and the order of additions is always the same.
void embedding_backward(Stream, const Tensor& tokens, const Tensor& dout, const Tensor& dtable) {
  const int64_t n = dout.rows(), d = dout.cols();
  const int32_t* const token = checked_indices(tokens, 0, dtable.rows());
  const float* const dout_rows = dout.data<float>();
  float* const dtable_rows = dtable.data<float>();
  constexpr int64_t kCacheLine = 16;  // floats
  const int64_t blocks = div_ceil(d, kCacheLine);
#pragma omp parallel
  {
    const int64_t threads = omp_get_num_threads();
    const int64_t thread = omp_get_thread_num();
    const int64_t begin = blocks * thread / threads * kCacheLine;
    const int64_t end = std::min(d, blocks * (thread + 1) / threads * kCacheLine);
    for (int64_t i = 0; i < n && begin < end; ++i) {
      const float* from = dout_rows + i * d;
      float* to = dtable_rows + token[i] * d;
#pragma omp simd
      for (int64_t c = begin; c < end; ++c) to[c] += from[c];
    }
  }
}

}  // namespace depthroute::cpu
