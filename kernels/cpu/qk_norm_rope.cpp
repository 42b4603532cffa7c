// RMSNorm over each head of q and k, then the rotation of rotate-half RoPE: with K = head_dim and i < K/2,
//   out[i]       = y[i] cos_i - y[i + K/2] sin_i
//   out[i + K/2] = y[i + K/2] cos_i + y[i] sin_i,   y = x * r * weight, r = 1 / sqrt(mean(x^2) + eps)
#include <cmath>

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/reduce.h"
#include "kernels/cpu/vector_math.h"

namespace depthroute::cpu {

void rope_table(int64_t seq_len, int64_t head_dim, double theta, float* table) {
  const int64_t half = head_dim / 2;
#pragma omp parallel for schedule(static)
  for (int64_t t = 0; t < seq_len; ++t) {
    float* row = table + t * head_dim;
    for (int64_t i = 0; i < half; ++i) {
      const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(head_dim);
      const double angle = static_cast<double>(t) * std::pow(theta, exponent);
      row[i] = static_cast<float>(std::cos(angle));
      row[half + i] = static_cast<float>(std::sin(angle));
    }
  }
}

namespace {

float inverse_rms(int64_t k, const float* x, float eps) {
  return 1.0f / std::sqrt(sum_squares(k, x) / static_cast<float>(k) + eps);
}

void forward_heads(int64_t heads, int64_t k, const float* x, const float* weight, float eps,
                   const float* cosines, float* out) {
  const int64_t half = k / 2;
  const float* sines = cosines + half;
  for (int64_t head = 0; head < heads; ++head, x += k, out += k) {
    const float r = inverse_rms(k, x, eps);
#pragma omp simd
    for (int64_t i = 0; i < half; ++i) {
      const float low = x[i] * r * weight[i];
      const float high = x[i + half] * r * weight[i + half];
      out[i] = low * cosines[i] - high * sines[i];
      out[i + half] = high * cosines[i] + low * sines[i];
    }
  }
}

// The inverse rotation gives dy; then the RMSNorm's backward with g = dy * weight:
//   dx = r (g - xhat mean(g * xhat)), dweight += dy * xhat, xhat = x r.
// dx first holds dy.
void backward_heads(int64_t heads, int64_t k, const float* d_out, const float* x, const float* weight,
                    float eps, const float* cosines, float* dx, float* dweight) {
  const int64_t half = k / 2;
  const float* sines = cosines + half;
  for (int64_t head = 0; head < heads; ++head, x += k, d_out += k, dx += k) {
    const float r = inverse_rms(k, x, eps);
#pragma omp simd
    for (int64_t i = 0; i < half; ++i) {
      dx[i] = d_out[i] * cosines[i] + d_out[i + half] * sines[i];
      dx[i + half] = d_out[i + half] * cosines[i] - d_out[i] * sines[i];
    }
    const float projection = triple_dot(k, dx, weight, x) * r * r * r / static_cast<float>(k);
#pragma omp simd
    for (int64_t i = 0; i < k; ++i) {
      const float scaled = dx[i] * r;
      dweight[i] += scaled * x[i];
      dx[i] = scaled * weight[i] - projection * x[i];
    }
  }
}

}  // namespace

void qk_norm_rope_forward(const ops::AttentionShape& shape, const float* qkv, const float* q_weight,
                          const float* k_weight, float eps, const float* rope, float* q, float* k) {
  const int64_t dim = shape.head_dim;
#pragma omp parallel for schedule(static)
  for (int64_t token = 0; token < shape.tokens(); ++token) {
    const float* row = qkv + token * shape.qkv_cols();
    const float* cosines = rope + token % shape.seq_len * dim;
    forward_heads(shape.num_heads, dim, row, q_weight, eps, cosines, q + token * shape.q_cols());
    forward_heads(shape.num_kv_heads, dim, row + shape.q_cols(), k_weight, eps, cosines,
                  k + token * shape.kv_cols());
  }
}

void qk_norm_rope_backward(const ops::AttentionShape& shape, const float* dq, const float* dk,
                           const float* qkv, const float* q_weight, const float* k_weight, float eps,
                           const float* rope, float* dqkv, float* dq_weight, float* dk_weight,
                           float* workspace) {
  const int64_t dim = shape.head_dim;
  const int64_t n = shape.tokens();
  reduce_over_tokens(n, 2 * dim, workspace, [&](int64_t begin, int64_t end, float* partial) {
    for (int64_t token = begin; token < end; ++token) {
      const float* row = qkv + token * shape.qkv_cols();
      float* d_row = dqkv + token * shape.qkv_cols();
      const float* cosines = rope + token % shape.seq_len * dim;
      backward_heads(shape.num_heads, dim, dq + token * shape.q_cols(), row, q_weight, eps, cosines, d_row,
                     partial);
      backward_heads(shape.num_kv_heads, dim, dk + token * shape.kv_cols(), row + shape.q_cols(), k_weight,
                     eps, cosines, d_row + shape.q_cols(), partial + dim);
    }
  });
  add_partials(n, 2 * dim, 0, dim, workspace, dq_weight);
  add_partials(n, 2 * dim, dim, 2 * dim, workspace, dk_weight);
}

}  // namespace depthroute::cpu
