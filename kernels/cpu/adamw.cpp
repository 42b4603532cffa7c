#include <algorithm>
#include <cmath>

#include "configs/base/check.h"
#include "kernels/adamw_factors.h"
#include "kernels/cpu/elementwise.h"
#include "kernels/op_table.h"

namespace depthroute::cpu {

namespace {

// min(1, max_norm / (norm + 1e-6)) (train/model/SPEC.md §3).
float clip_factor(float norm, float max_norm) {
  if (max_norm == 0.0f) return 1.0f;
  return static_cast<float>(std::min(1.0, max_norm / (static_cast<double>(norm) + 1e-6)));
}

}  // namespace

void adamw(Stream, const AdamwStep& step, const Tensor& norm, const Tensor& loss, const Tensor& grad,
           const Tensor& param, const Tensor& m, const Tensor& v, const Tensor& compute) {
  DR_CHECK_MSG(!compute.defined(), "adamw: the CPU computes with the f32 parameters themselves");
  if (!std::isfinite(*norm.data<float>()) || !std::isfinite(*loss.data<double>())) return;
  const float clip = clip_factor(*norm.data<float>(), step.max_norm);
  const float* const gradients = grad.data<float>();
  float* const parameters = param.data<float>();
  float* const first_moments = m.data<float>();
  float* const second_moments = v.data<float>();
  const int64_t n = param.numel();
  const AdamwFactors f(step);
#pragma omp parallel for simd schedule(static) firstprivate(f) if (n > kMinParallelElements)
  for (int64_t i = 0; i < n; ++i) {
    const float g = gradients[i] * clip;
    const float m_new = f.beta1 * first_moments[i] + f.one_minus_beta1 * g;
    const float v_new = f.beta2 * second_moments[i] + f.one_minus_beta2 * g * g;
    first_moments[i] = m_new;
    second_moments[i] = v_new;
    parameters[i] -= f.step_size * m_new / (std::sqrt(v_new * f.v_scale) + f.eps) + f.decay * parameters[i];
  }
}

}  // namespace depthroute::cpu
