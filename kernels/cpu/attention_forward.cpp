// Causal attention, forward. A tile's scores are computed for one block of keys at a time, with an online
// softmax over the blocks (Milakov and Gimelshein, arXiv:1805.02867; tiles as in FlashAttention,
// arXiv:2205.14135). Blocks after the tile's last token are skipped.
#include <omp.h>

#include <cmath>
#include <limits>

#include "kernels/cpu/attention_tile.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/vector_math.h"
#include "kernels/op_table.h"

namespace depthroute::cpu {
namespace {

/// Turns one row's scores into e^(score - maximum), 0 beyond `visible`. Updates `maximum` and `sum`, the
/// row's over all blocks so far. Returns the factor for whatever was summed under the old maximum.
float exponentials(float* scores, int64_t visible, int64_t keys, float& maximum, float& sum) {
  std::fill(scores + visible, scores + keys, 0.0f);
  if (visible == 0) return 1.0f;
  const float block_maximum = max_value(visible, scores);
  const float largest = block_maximum > maximum ? block_maximum : maximum;
  const float correction = fast_exp(maximum - largest);
  float total = 0;
#pragma omp simd reduction(+ : total)
  for (int64_t c = 0; c < visible; ++c) {
    scores[c] = fast_exp(scores[c] - largest);
    total += scores[c];
  }
  maximum = largest;
  sum = sum * correction + total;
  return correction;
}

}  // namespace

AttentionNotes attention_notes(Device, DType, const AttentionShape&) { return {}; }

int64_t attention_workspace(Device, DType, const AttentionShape& s) {
  return AttentionScratch::floats(s) * omp_get_max_threads();
}

void attention_forward(Stream, const AttentionShape& s, const Tensor& q, const Tensor& k, const Tensor& v,
                       const Tensor& out, const Tensor& lse, const Tensor& workspace) {
  const AttentionTiling tiling(s);
  const int64_t head_dim = s.head_dim, k_stride = s.kv_cols(), v_stride = v.row_stride();
  const float* const queries = q.data<float>();
  const float *const keys_of_all = k.data<float>(), *const values_of_all = v.data<float>();
  float *const outputs = out.data<float>(), *const log_sum_exps = lse.data<float>();
  float* const memory = workspace.data<float>();
  const int64_t groups = s.batch * s.num_kv_heads;
  const float scale = s.scale();

#pragma omp parallel
  {
    const AttentionScratch scratch(s, memory + omp_get_thread_num() * AttentionScratch::floats(s));
    float* const maximum = scratch.row_a;
    float* const sum = scratch.row_b;
    // Start with the longest tiles, those at the end of the sequences.
#pragma omp for schedule(dynamic)
    for (int64_t work = 0; work < groups * tiling.tiles; ++work) {
      const int64_t sequence = work % groups / s.num_kv_heads, kv_head = work % s.num_kv_heads;
      const AttentionTile tile(s, tiling, sequence, kv_head, tiling.tiles - 1 - work / groups);
      const int64_t rows = tile.rows(), end = tile.begin + tile.tokens;
      const float* keys_of_head = keys_of_all + sequence * s.seq_len * k_stride + kv_head * head_dim;
      const float* values_of_head = values_of_all + sequence * s.seq_len * v_stride + kv_head * head_dim;

      tile.gather(queries, scale, scratch.query);
      std::fill(maximum, maximum + rows, -std::numeric_limits<float>::infinity());
      std::fill(sum, sum + rows, 0.0f);
      for (int64_t key = 0; key < end; key += tiling.keys) {
        const int64_t keys = std::min(tiling.keys, end - key);
        sgemm(false, true, rows, keys, head_dim, scratch.query, head_dim, keys_of_head + key * k_stride,
              k_stride, 0.0f, scratch.scores, keys);
        for (int64_t r = 0; r < rows; ++r) {
          const float correction =
              exponentials(scratch.scores + r * keys, tile.visible(r, key, keys), keys, maximum[r], sum[r]);
          if (key == 0 || correction == 1.0f) continue;
          float* row = scratch.result + r * head_dim;
          for (int64_t i = 0; i < head_dim; ++i) row[i] *= correction;
        }
        sgemm(false, false, rows, head_dim, keys, scratch.scores, keys, values_of_head + key * v_stride,
              v_stride, key == 0 ? 0.0f : 1.0f, scratch.result, head_dim);
      }
      for (int64_t r = 0; r < rows; ++r) {
        const float inverse = 1.0f / sum[r];
        const float* from = scratch.result + r * head_dim;
        float* to = outputs + tile.at(r);
        for (int64_t i = 0; i < head_dim; ++i) to[i] = from[i] * inverse;
        log_sum_exps[tile.lse_at(r)] = maximum[r] + std::log(sum[r]);
      }
    }
  }
}

}  // namespace depthroute::cpu
