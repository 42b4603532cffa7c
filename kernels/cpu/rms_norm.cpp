#include <cmath>

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/reduce.h"
#include "kernels/cpu/vector_math.h"

namespace depthroute::cpu {

void rms_norm_forward(int64_t n, int64_t d, const float* x, const float* weight, float eps, float* y,
                      float* rstd) {
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < n; ++i) {
    const float* row = x + i * d;
    float* out = y + i * d;
    const float r = 1.0f / std::sqrt(sum_squares(d, row) / static_cast<float>(d) + eps);
    rstd[i] = r;
#pragma omp simd
    for (int64_t c = 0; c < d; ++c) out[c] = row[c] * r * weight[c];
  }
}

// With g = dy * weight and r the inverse RMS: dx = r g - (r^3 / D) (g . x) x, dweight = sum over tokens of dy
// * x * r.
void rms_norm_backward(int64_t n, int64_t d, const float* dy, const float* x, const float* weight,
                       const float* rstd, float* dx, float* dweight, float* workspace) {
  reduce_over_tokens(n, d, workspace, [&](int64_t begin, int64_t end, float* partial) {
    for (int64_t i = begin; i < end; ++i) {
      const float* dy_row = dy + i * d;
      const float* x_row = x + i * d;
      float* dx_row = dx + i * d;
      const float r = rstd[i];
      const float projection = triple_dot(d, dy_row, weight, x_row) * r * r * r / static_cast<float>(d);
#pragma omp simd
      for (int64_t c = 0; c < d; ++c) {
        const float scaled = dy_row[c] * r;
        partial[c] += scaled * x_row[c];
        dx_row[c] += scaled * weight[c] - projection * x_row[c];
      }
    }
  });
  add_partials(n, d, 0, d, workspace, dweight);
}

}  // namespace depthroute::cpu
