// What the attention kernels share: how the work is cut into tiles, and the copies in and out of a tile.
//
// A tile is a run of query tokens of one sequence times all heads that share a kv head. Its rows are [head in
// group][token], so that one matrix product serves the whole group. Keys are taken in blocks. Tiles and
// blocks depend on the shape only, a tile belongs to one thread, and sums over blocks run in order: results
// do not depend on the number of threads.
#pragma once

#include <algorithm>
#include <cstdint>

#include "configs/base/check.h"
#include "kernels/op_types.h"

namespace depthroute::cpu {

struct AttentionTiling {
  /// Rows of a tile, approximately.
  static constexpr int64_t kRows = 128;
  /// Keys at a time: a block of scores stays in the L2 cache.
  static constexpr int64_t kKeyBlock = 512;

  explicit AttentionTiling(const AttentionShape& s)
      : group(div_exact(s.num_heads, s.num_kv_heads)),
        tokens(std::min(s.seq_len, std::max<int64_t>(1, kRows / group))),
        tiles(div_ceil(s.seq_len, tokens)),
        keys(std::min(s.seq_len, kKeyBlock)) {}

  int64_t rows() const { return group * tokens; }

  int64_t group;   // query heads of a kv head
  int64_t tokens;  // query tokens of a tile
  int64_t tiles;   // per sequence and kv head
  int64_t keys;    // keys of a block
};

/// Scratch of one thread, a slice of the workspace.
struct AttentionScratch {
  static int64_t floats(const AttentionShape& s) {
    const AttentionTiling tiling(s);
    return tiling.rows() * (2 * tiling.keys + 3 * s.head_dim + 2);
  }
  AttentionScratch(const AttentionShape& s, float* memory) {
    const AttentionTiling tiling(s);
    const int64_t rows = tiling.rows();
    scores = memory;
    dscores = scores + rows * tiling.keys;
    query = dscores + rows * tiling.keys;
    out = query + rows * s.head_dim;
    result = out + rows * s.head_dim;
    row_a = result + rows * s.head_dim;
    row_b = row_a + rows;
  }
  float* scores;   // [rows, keys]
  float* dscores;  // [rows, keys]
  float* query;    // [rows, K], times K^-1/2
  float* out;      // [rows, K]: gradient of the output (backward)
  float* result;   // [rows, K]: output, or gradient of the query
  float* row_a;    // [rows]
  float* row_b;    // [rows]
};

/// One tile: query tokens [begin, begin + tokens) of a sequence, heads [head, head + group).
struct AttentionTile {
  AttentionTile(const AttentionShape& s, const AttentionTiling& tiling, int64_t sequence, int64_t kv_head,
                int64_t index)
      : begin(index * tiling.tokens),
        tokens(std::min(tiling.tokens, s.seq_len - begin)),
        group(tiling.group),
        head_dim(s.head_dim),
        stride(s.q_cols()),
        offset((sequence * s.seq_len + begin) * stride + kv_head * group * head_dim),
        lse_stride(s.seq_len),
        lse_offset((sequence * s.num_heads + kv_head * group) * s.seq_len + begin) {}

  int64_t rows() const { return group * tokens; }
  /// How many keys of the block that begins at `key` row r of the tile sees: 0 ... keys.
  int64_t visible(int64_t r, int64_t key, int64_t keys) const {
    return std::clamp<int64_t>(begin + r % tokens + 1 - key, 0, keys);
  }
  /// Offset of row r in a tensor [N, H*K], and in one [B, H, T].
  int64_t at(int64_t r) const { return offset + (r % tokens) * stride + (r / tokens) * head_dim; }
  int64_t lse_at(int64_t r) const { return lse_offset + (r / tokens) * lse_stride + r % tokens; }

  void gather(const float* from, float factor, float* to) const {
    for (int64_t r = 0; r < rows(); ++r) {
      const float* x = from + at(r);
      float* y = to + r * head_dim;
#pragma omp simd
      for (int64_t i = 0; i < head_dim; ++i) y[i] = factor * x[i];
    }
  }

  int64_t begin, tokens, group, head_dim, stride, offset, lse_stride, lse_offset;
};

}  // namespace depthroute::cpu
