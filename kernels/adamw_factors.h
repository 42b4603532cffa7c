// What an AdamW step does to every element alike (train/model/SPEC.md §3), for all backends.
#pragma once

#include <cmath>

#include "kernels/op_types.h"

namespace depthroute {

/// Rounded once from float64: at t = 1, 1 - beta2 in float32 would lose digits that every update sees.
struct AdamwFactors {
  explicit AdamwFactors(const AdamwStep& step)
      : beta1(step.beta1), beta2(step.beta2), eps(step.eps), max_norm(step.max_norm) {
    const double t = static_cast<double>(step.step);
    const double lr = step.lr, b1 = step.beta1, b2 = step.beta2;
    one_minus_beta1 = static_cast<float>(1.0 - b1);
    one_minus_beta2 = static_cast<float>(1.0 - b2);
    step_size = static_cast<float>(lr / (1.0 - std::pow(b1, t)));
    v_scale = static_cast<float>(1.0 / (1.0 - std::pow(b2, t)));
    decay = static_cast<float>(lr * static_cast<double>(step.weight_decay));
  }

  float beta1, beta2, one_minus_beta1, one_minus_beta2;
  float step_size;  // lr / (1 - beta1^t)
  float v_scale;    // 1 / (1 - beta2^t)
  float decay;      // lr * weight_decay
  float eps, max_norm;
};

}  // namespace depthroute
