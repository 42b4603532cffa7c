// Causal attention, backward: probabilities again from the kept log-sum-exp. One thread owns a (sequence, kv
// head): it goes through the query tiles in order and adds to dk and dv in place, so those sums have one
// order and need no scratch.
#include <omp.h>

#include "kernels/cpu/attention_tile.h"
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/vector_math.h"

namespace depthroute::cpu {
namespace {

/// Scores of a row to probabilities, e^(score - lse); 0 beyond `visible`.
void probabilities(float* scores, int64_t visible, int64_t keys, float lse) {
#pragma omp simd
  for (int64_t c = 0; c < visible; ++c) scores[c] = fast_exp(scores[c] - lse);
  std::fill(scores + visible, scores + keys, 0.0f);
}

/// dP to dS = P (dP - delta).
void score_gradients(const float* p, float* dp, int64_t keys, float delta) {
#pragma omp simd
  for (int64_t c = 0; c < keys; ++c) dp[c] = p[c] * (dp[c] - delta);
}

void clear_rows(int64_t rows, int64_t columns, float* x, int64_t stride) {
  for (int64_t r = 0; r < rows; ++r) std::fill(x + r * stride, x + r * stride + columns, 0.0f);
}

}  // namespace

void attention_backward(const ops::AttentionShape& s, const float* dout, const float* q, const float* k,
                        const float* v, int64_t v_stride, const float* out, const float* lse, float* dq,
                        float* dk, float* dv, int64_t dv_stride, float* workspace) {
  const AttentionTiling tiling(s);
  const int64_t head_dim = s.head_dim, k_stride = s.kv_cols();
  const float scale = attention_scale(s);

#pragma omp parallel
  {
    const AttentionScratch scratch(s, workspace + omp_get_thread_num() * AttentionScratch::floats(s));
    float* const delta = scratch.row_a;
    float* const row_lse = scratch.row_b;
#pragma omp for schedule(dynamic)
    for (int64_t owner = 0; owner < s.batch * s.num_kv_heads; ++owner) {
      const int64_t sequence = owner / s.num_kv_heads, kv_head = owner % s.num_kv_heads;
      const int64_t k_offset = sequence * s.seq_len * k_stride + kv_head * head_dim;
      const float* k_head = k + k_offset;
      float* dk_head = dk + k_offset;
      const float* v_head = v + sequence * s.seq_len * v_stride + kv_head * head_dim;
      float* dv_head = dv + sequence * s.seq_len * dv_stride + kv_head * head_dim;
      clear_rows(s.seq_len, head_dim, dk_head, k_stride);
      clear_rows(s.seq_len, head_dim, dv_head, dv_stride);

      for (int64_t index = 0; index < tiling.tiles; ++index) {
        const AttentionTile tile(s, tiling, sequence, kv_head, index);
        const int64_t rows = tile.rows(), end = tile.begin + tile.tokens;
        tile.gather(q, scale, scratch.query);
        tile.gather(dout, 1.0f, scratch.out);
        for (int64_t r = 0; r < rows; ++r) {
          delta[r] = dot(head_dim, scratch.out + r * head_dim, out + tile.at(r));
          row_lse[r] = lse[tile.lse_at(r)];
        }
        for (int64_t key = 0; key < end; key += tiling.keys) {
          const int64_t keys = std::min(tiling.keys, end - key);
          gemm(false, true, rows, keys, head_dim, scratch.query, head_dim, k_head + key * k_stride, k_stride,
               0.0f, scratch.scores, keys);
          for (int64_t r = 0; r < rows; ++r)
            probabilities(scratch.scores + r * keys, tile.visible(r, key, keys), keys, row_lse[r]);
          gemm(true, false, keys, head_dim, rows, scratch.scores, keys, scratch.out, head_dim, 1.0f,
               dv_head + key * dv_stride, dv_stride);
          gemm(false, true, rows, keys, head_dim, scratch.out, head_dim, v_head + key * v_stride, v_stride,
               0.0f, scratch.dscores, keys);
          for (int64_t r = 0; r < rows; ++r)
            score_gradients(scratch.scores + r * keys, scratch.dscores + r * keys, keys, delta[r]);
          gemm(false, false, rows, head_dim, keys, scratch.dscores, keys, k_head + key * k_stride, k_stride,
               key == 0 ? 0.0f : 1.0f, scratch.result, head_dim);
          gemm(true, false, keys, head_dim, rows, scratch.dscores, keys, scratch.query, head_dim, 1.0f,
               dk_head + key * k_stride, k_stride);
        }
        for (int64_t r = 0; r < rows; ++r) {
          const float* from = scratch.result + r * head_dim;
          float* to = dq + tile.at(r);
          for (int64_t i = 0; i < head_dim; ++i) to[i] = scale * from[i];
        }
      }
    }
  }
}

}  // namespace depthroute::cpu
