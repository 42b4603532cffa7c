#include "kernels/cpu/vector_math.h"
#include "kernels/op_table.h"

namespace depthroute::cpu {
namespace {

/// silu'(g) = s (1 + g (1 - s)), where s is the sigmoid. Every element is read before it is written: dgate may
/// be gate. act is written if kAct.
template <bool kAct>
void backward_row(int64_t f, const float* dact, const float* gate, float* dgate, float* act) {
  const float* const up = gate + f;
  float* const dup = dgate + f;
#pragma omp simd
  for (int64_t c = 0; c < f; ++c) {
    const float g = gate[c];
    const float u = up[c];
    const float d = dact[c];
    const float s = fast_sigmoid(g);
    const float silu = g * s;
    if constexpr (kAct) act[c] = silu * u;
    dgate[c] = d * u * (s + silu * (1.0f - s));
    dup[c] = d * silu;
  }
}

}  // namespace

void swiglu_forward(Stream, const Tensor& gate_up, const Tensor& act) {
  const int64_t n = act.rows(), f = act.cols();
  const float* const gate_up_rows = gate_up.data<float>();
  float* const act_rows = act.data<float>();
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < n; ++i) {
    const float* gate = gate_up_rows + i * 2 * f;
    const float* up = gate + f;
    float* out = act_rows + i * f;
#pragma omp simd
    for (int64_t c = 0; c < f; ++c) out[c] = gate[c] * fast_sigmoid(gate[c]) * up[c];
  }
}

void swiglu_backward(Stream, const Tensor& dact, const Tensor& gate_up, const Tensor& dgate_up,
                     const Tensor& act) {
  const int64_t n = dact.rows(), f = dact.cols();
  const float *const dact_rows = dact.data<float>(), *const gate_up_rows = gate_up.data<float>();
  float* const dgate_up_rows = dgate_up.data<float>();
  float* const act_rows = act.defined() ? act.data<float>() : nullptr;
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < n; ++i) {
    const float* gate = gate_up_rows + i * 2 * f;
    float* dgate = dgate_up_rows + i * 2 * f;
    if (act_rows) {
      backward_row<true>(f, dact_rows + i * f, gate, dgate, act_rows + i * f);
    } else {
      backward_row<false>(f, dact_rows + i * f, gate, dgate, nullptr);
    }
  }
}

}  // namespace depthroute::cpu
