#include "kernels/cpu/reduce.h"
#include "kernels/cpu/vector_math.h"
#include "kernels/op_table.h"

namespace depthroute::cpu {

void rms_norm_forward(Stream, const Tensor& x, const Tensor& weight, float eps, const Tensor& y,
                      const Tensor& rstd) {
  const int64_t n = x.rows(), d = x.cols();
  const float *const x_rows = x.data<float>(), *const w = weight.data<float>();
  float *const y_rows = y.data<float>(), *const rstd_of = rstd.data<float>();
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < n; ++i) {
    const float* row = x_rows + i * d;
    float* out = y_rows + i * d;
    const float r = inverse_rms(d, row, eps);
    rstd_of[i] = r;
#pragma omp simd
    for (int64_t c = 0; c < d; ++c) out[c] = row[c] * r * w[c];
  }
}

// With g = dy * weight and r the inverse RMS: dx = r g - (r^3 / D) (g . x) x;
// dweight = sum over tokens of dy * x * r.
void rms_norm_backward(Stream, const Tensor& dy, const Tensor& x, const Tensor& weight, const Tensor& rstd,
                       const Tensor& dx, const Tensor& dweight, const Tensor& workspace) {
  const int64_t n = x.rows(), d = x.cols();
  const float *const dy_rows = dy.data<float>(), *const x_rows = x.data<float>();
  const float *const w = weight.data<float>(), *const rstd_of = rstd.data<float>();
  float *const dx_rows = dx.data<float>(), *const partials = workspace.data<float>();
  reduce_over_tokens(n, d, partials, [&](int64_t begin, int64_t end, float* partial) {
    for (int64_t i = begin; i < end; ++i) {
      const float* dy_row = dy_rows + i * d;
      const float* x_row = x_rows + i * d;
      float* dx_row = dx_rows + i * d;
      const float r = rstd_of[i];
      const float projection = triple_dot(d, dy_row, w, x_row) * r * r * r / static_cast<float>(d);
#pragma omp simd
      for (int64_t c = 0; c < d; ++c) {
        const float scaled = dy_row[c] * r;
        partial[c] += scaled * x_row[c];
        dx_row[c] += scaled * w[c] - projection * x_row[c];
      }
    }
  });
  add_partials(n, d, 0, d, partials, dweight.data<float>());
}

}  // namespace depthroute::cpu
