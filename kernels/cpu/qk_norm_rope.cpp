// RMSNorm over each head of q and k, then the rotation of rotate-half RoPE: with K = head_dim and i < K/2,
//   out[i]       = y[i] cos_i - y[i + K/2] sin_i
//   out[i + K/2] = y[i + K/2] cos_i + y[i] sin_i,   y = x * r * weight, r = 1 / sqrt(mean(x^2) + eps)
// Without weights, y = x.
#include <cmath>

#include "kernels/cpu/reduce.h"
#include "kernels/cpu/vector_math.h"
#include "kernels/op_table.h"

namespace depthroute::cpu {

void rope_table(Stream, double theta, const Tensor& table) {
  const int64_t seq_len = table.rows(), head_dim = table.cols(), half = head_dim / 2;
  float* const rows = table.data<float>();
#pragma omp parallel for schedule(static)
  for (int64_t t = 0; t < seq_len; ++t) {
    float* row = rows + t * head_dim;
    for (int64_t i = 0; i < half; ++i) {
      const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(head_dim);
      const double angle = static_cast<double>(t) * std::pow(theta, exponent);
      row[i] = static_cast<float>(std::cos(angle));
      row[half + i] = static_cast<float>(std::sin(angle));
    }
  }
}

namespace {

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

// The inverse rotation gives dy; the RMSNorm's backward follows, with g = dy * weight:
//   dx = r (g - xhat mean(g * xhat)), dweight += dy * xhat, xhat = x r.
// dx holds dy in between.
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

void rotate_heads(int64_t heads, int64_t k, const float* x, const float* cosines, float direction,
                  float* out) {
  const int64_t half = k / 2;
  const float* sines = cosines + half;
  for (int64_t head = 0; head < heads; ++head, x += k, out += k) {
#pragma omp simd
    for (int64_t i = 0; i < half; ++i) {
      const float low = x[i], high = x[i + half], sine = direction * sines[i];
      out[i] = low * cosines[i] - high * sine;
      out[i + half] = high * cosines[i] + low * sine;
    }
  }
}

/// RoPE alone, from q and k to q_out and k_out. `direction`: 1, or -1 to turn back.
void rotate(const AttentionShape& shape, const Tensor& q, const Tensor& k, const Tensor& rope,
            float direction, const Tensor& q_out, const Tensor& k_out) {
  const int64_t dim = shape.head_dim;
  const float *const q_rows = q.data<float>(), *const k_rows = k.data<float>();
  const float* const rope_rows = rope.data<float>();
  float *const q_out_rows = q_out.data<float>(), *const k_out_rows = k_out.data<float>();
#pragma omp parallel for schedule(static)
  for (int64_t token = 0; token < shape.tokens(); ++token) {
    const float* cosines = rope_rows + token % shape.seq_len * dim;
    rotate_heads(shape.num_heads, dim, q_rows + token * q.row_stride(), cosines, direction,
                 q_out_rows + token * q_out.row_stride());
    rotate_heads(shape.num_kv_heads, dim, k_rows + token * k.row_stride(), cosines, direction,
                 k_out_rows + token * k_out.row_stride());
  }
}

}  // namespace

void qk_norm_rope_forward(Stream, const AttentionShape& shape, const Tensor& qkv, const Tensor& q_weight,
                          const Tensor& k_weight, float eps, const Tensor& rope, const Tensor& q,
                          const Tensor& k) {
  if (!q_weight.defined()) return rotate(shape, shape.q_columns(qkv), shape.k_columns(qkv), rope, 1, q, k);
  const int64_t dim = shape.head_dim;
  const float *const qkv_rows = qkv.data<float>(), *const rope_rows = rope.data<float>();
  const float *const q_norm = q_weight.data<float>(), *const k_norm = k_weight.data<float>();
  float *const q_rows = q.data<float>(), *const k_rows = k.data<float>();
#pragma omp parallel for schedule(static)
  for (int64_t token = 0; token < shape.tokens(); ++token) {
    const float* row = qkv_rows + token * shape.qkv_cols();
    const float* cosines = rope_rows + token % shape.seq_len * dim;
    forward_heads(shape.num_heads, dim, row, q_norm, eps, cosines, q_rows + token * shape.q_cols());
    forward_heads(shape.num_kv_heads, dim, row + shape.q_cols(), k_norm, eps, cosines,
                  k_rows + token * shape.kv_cols());
  }
}

void qk_norm_rope_backward(Stream, const AttentionShape& shape, const Tensor& dq, const Tensor& dk,
                           const Tensor& qkv, const Tensor& q_weight, const Tensor& k_weight, float eps,
                           const Tensor& rope, const Tensor& dqkv, const Tensor& dq_weight,
                           const Tensor& dk_weight, const Tensor& workspace) {
  if (!q_weight.defined())
    return rotate(shape, dq, dk, rope, -1, shape.q_columns(dqkv), shape.k_columns(dqkv));
  const int64_t dim = shape.head_dim, n = shape.tokens();
  const float *const dq_rows = dq.data<float>(), *const dk_rows = dk.data<float>();
  const float *const qkv_rows = qkv.data<float>(), *const rope_rows = rope.data<float>();
  const float *const q_norm = q_weight.data<float>(), *const k_norm = k_weight.data<float>();
  float *const dqkv_rows = dqkv.data<float>(), *const partials = workspace.data<float>();
  reduce_over_tokens(n, 2 * dim, partials, [&](int64_t begin, int64_t end, float* partial) {
    for (int64_t token = begin; token < end; ++token) {
      const float* row = qkv_rows + token * shape.qkv_cols();
      float* d_row = dqkv_rows + token * shape.qkv_cols();
      const float* cosines = rope_rows + token % shape.seq_len * dim;
      backward_heads(shape.num_heads, dim, dq_rows + token * shape.q_cols(), row, q_norm, eps, cosines, d_row,
                     partial);
      backward_heads(shape.num_kv_heads, dim, dk_rows + token * shape.kv_cols(), row + shape.q_cols(), k_norm,
                     eps, cosines, d_row + shape.q_cols(), partial + dim);
    }
  });
  if (!dq_weight.defined()) return;
  add_partials(n, 2 * dim, 0, dim, partials, dq_weight.data<float>());
  add_partials(n, 2 * dim, dim, 2 * dim, partials, dk_weight.data<float>());
}

}  // namespace depthroute::cpu
