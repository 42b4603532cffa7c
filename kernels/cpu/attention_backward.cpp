// Causal attention, backward. Recomputes the probabilities from the saved log-sum-exp. One thread owns a
// (sequence, kv head): it visits the query tiles in order and adds to dk and dv in place, so those sums have
// a fixed order and need no scratch.
#include <omp.h>

#include "kernels/cpu/attention_tile.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/vector_math.h"
#include "kernels/op_table.h"

namespace depthroute::cpu {
namespace {

/// Turns a row's scores into probabilities, e^(score - lse); 0 beyond `visible`.
void probabilities(float* scores, int64_t visible, int64_t keys, float lse) {
#pragma omp simd
  for (int64_t c = 0; c < visible; ++c) scores[c] = fast_exp(scores[c] - lse);
  std::fill(scores + visible, scores + keys, 0.0f);
}

/// Turns dP into dS = P (dP - delta).
void score_gradients(const float* p, float* dp, int64_t keys, float delta) {
#pragma omp simd
  for (int64_t c = 0; c < keys; ++c) dp[c] = p[c] * (dp[c] - delta);
}

void clear_rows(int64_t rows, int64_t columns, float* x, int64_t stride) {
  for (int64_t r = 0; r < rows; ++r) std::fill(x + r * stride, x + r * stride + columns, 0.0f);
}

}  // namespace

void attention_backward(Stream, const AttentionShape& s, const Tensor& dout, const Tensor& q, const Tensor& k,
                        const Tensor& v, const Tensor& out, const Tensor& lse, const Tensor& dq,
                        const Tensor& dk, const Tensor& dv, const Tensor& workspace) {
  const AttentionTiling tiling(s);
  const int64_t head_dim = s.head_dim, k_stride = s.kv_cols();
  const int64_t v_stride = v.row_stride(), dv_stride = dv.row_stride();
  const float *const queries = q.data<float>(), *const keys_of_all = k.data<float>();
  const float *const values_of_all = v.data<float>(), *const log_sum_exps = lse.data<float>();
  const float *const outputs = out.data<float>(), *const doutputs = dout.data<float>();
  float *const dqueries = dq.data<float>(), *const dkeys = dk.data<float>();
  float *const dvalues = dv.data<float>(), *const memory = workspace.data<float>();
  const float scale = s.scale();

#pragma omp parallel
  {
    const AttentionScratch scratch(s, memory + omp_get_thread_num() * AttentionScratch::floats(s));
    float* const delta = scratch.row_a;
    float* const row_lse = scratch.row_b;
#pragma omp for schedule(dynamic)
    for (int64_t owner = 0; owner < s.batch * s.num_kv_heads; ++owner) {
      const int64_t sequence = owner / s.num_kv_heads, kv_head = owner % s.num_kv_heads;
      const int64_t k_offset = sequence * s.seq_len * k_stride + kv_head * head_dim;
      const float* k_head = keys_of_all + k_offset;
      float* dk_head = dkeys + k_offset;
      const float* v_head = values_of_all + sequence * s.seq_len * v_stride + kv_head * head_dim;
      float* dv_head = dvalues + sequence * s.seq_len * dv_stride + kv_head * head_dim;
      clear_rows(s.seq_len, head_dim, dk_head, k_stride);
      clear_rows(s.seq_len, head_dim, dv_head, dv_stride);

      for (int64_t index = 0; index < tiling.tiles; ++index) {
        const AttentionTile tile(s, tiling, sequence, kv_head, index);
        const int64_t rows = tile.rows(), end = tile.begin + tile.tokens;
        tile.gather(queries, scale, scratch.query);
        tile.gather(doutputs, 1.0f, scratch.out);
        for (int64_t r = 0; r < rows; ++r) {
          delta[r] = dot(head_dim, scratch.out + r * head_dim, outputs + tile.at(r));
          row_lse[r] = log_sum_exps[tile.lse_at(r)];
        }
        for (int64_t key = 0; key < end; key += tiling.keys) {
          const int64_t keys = std::min(tiling.keys, end - key);
          sgemm(false, true, rows, keys, head_dim, scratch.query, head_dim, k_head + key * k_stride, k_stride,
                0.0f, scratch.scores, keys);
          for (int64_t r = 0; r < rows; ++r)
            probabilities(scratch.scores + r * keys, tile.visible(r, key, keys), keys, row_lse[r]);
          sgemm(true, false, keys, head_dim, rows, scratch.scores, keys, scratch.out, head_dim, 1.0f,
                dv_head + key * dv_stride, dv_stride);
          sgemm(false, true, rows, keys, head_dim, scratch.out, head_dim, v_head + key * v_stride, v_stride,
                0.0f, scratch.dscores, keys);
          for (int64_t r = 0; r < rows; ++r)
            score_gradients(scratch.scores + r * keys, scratch.dscores + r * keys, keys, delta[r]);
          sgemm(false, false, rows, head_dim, keys, scratch.dscores, keys, k_head + key * k_stride, k_stride,
                key == 0 ? 0.0f : 1.0f, scratch.result, head_dim);
          sgemm(true, false, keys, head_dim, rows, scratch.dscores, keys, scratch.query, head_dim, 1.0f,
                dk_head + key * k_stride, k_stride);
        }
        for (int64_t r = 0; r < rows; ++r) {
          const float* from = scratch.result + r * head_dim;
          float* to = dqueries + tile.at(r);
          for (int64_t i = 0; i < head_dim; ++i) to[i] = scale * from[i];
        }
      }
    }
  }
}

}  // namespace depthroute::cpu
