#include "kernels/cpu/kernels.h"
#include "kernels/cpu/vector_math.h"

namespace depthroute::cpu {

void swiglu_forward(int64_t n, int64_t f, const float* gate_up, float* act) {
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < n; ++i) {
    const float* gate = gate_up + i * 2 * f;
    const float* up = gate + f;
    float* out = act + i * f;
#pragma omp simd
    for (int64_t c = 0; c < f; ++c) out[c] = gate[c] * fast_sigmoid(gate[c]) * up[c];
  }
}

// silu'(g) = s (1 + g (1 - s)), s the sigmoid. Every element is read before it is written: dgate_up may be
// gate_up.
void swiglu_backward(int64_t n, int64_t f, const float* dact, const float* gate_up, float* dgate_up,
                     float* act) {
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < n; ++i) {
    const float* gate = gate_up + i * 2 * f;
    const float* up = gate + f;
    const float* d_row = dact + i * f;
    float* dgate = dgate_up + i * 2 * f;
    float* dup = dgate + f;
    float* out = act + i * f;
#pragma omp simd
    for (int64_t c = 0; c < f; ++c) {
      const float g = gate[c];
      const float u = up[c];
      const float d = d_row[c];
      const float s = fast_sigmoid(g);
      const float silu = g * s;
      out[c] = silu * u;
      dgate[c] = d * u * (s + silu * (1.0f - s));
      dup[c] = d * silu;
    }
  }
}

}  // namespace depthroute::cpu
