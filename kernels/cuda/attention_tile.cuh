// What the attention kernels share: square tiles of kTile queries by kTile keys, computed by 16 x 16 threads.
// Thread (y, x) owns the rows y + 16 i of a tile; of scores, the columns x + 16 j; of results [kTile,
// head_dim], the columns 64 g + 4 x ... + 3. So a row of scores belongs to one half of a warp, which computes
// its maximum and sum, and exchanging scores needs no more than __syncwarp().
//
// Rows of q, k, v and dout lie in shared memory as float32, head_dim padded to kPadded with zeros. To avoid
// bank conflicts, a row takes 4 floats more than it holds, so that 8 lanes that read 16 bytes each from 8
// consecutive rows touch all 32 banks; a row of scores takes 16 more, so that the two rows a warp writes at
// once fall into different banks.
#pragma once

#include <cstdint>

#include "kernels/cuda/check.h"
#include "kernels/cuda/vector.cuh"
#include "kernels/op_types.h"

namespace depthroute::cuda {

inline constexpr int kAttentionSide = 16;
inline constexpr int kAttentionThreads = kAttentionSide * kAttentionSide;

template <int kTileSize, int kPaddedHeadDim>
struct AttentionTile {
  static constexpr int kTile = kTileSize;
  static constexpr int kPadded = kPaddedHeadDim;
  static constexpr int kOwned = kTile / kAttentionSide;           // rows, and columns of scores, per thread
  static constexpr int kGroups = kPadded / (4 * kAttentionSide);  // groups of 4 columns of results per thread
  static constexpr int kRow = kPadded + 4;                        // floats from row to row
  static constexpr int kScoreRow = kTile + 16;
  static constexpr int kFloats = kTile * kRow;
  static constexpr int kScoreFloats = kTile * kScoreRow;
  using Scores = float[kOwned][kOwned];
  using Results = float[kOwned][kGroups][4];
};

/// An AttentionShape as the kernels need it.
struct AttentionProblem {
  int64_t seq_len;
  int batch, heads, kv_heads, head_dim;
  int tiles;  // per sequence
  float scale;
};
inline AttentionProblem attention_problem(const AttentionShape& s, int tile) {
  return {s.seq_len,
          narrow<int>(s.batch),
          narrow<int>(s.num_heads),
          narrow<int>(s.num_kv_heads),
          narrow<int>(s.head_dim),
          narrow<int>(div_ceil(s.seq_len, tile)),
          s.scale()};
}

__device__ __forceinline__ float4 load4(const float* p) { return *reinterpret_cast<const float4*>(p); }
__device__ __forceinline__ void store4(float* p, const float (&x)[4]) {
  *reinterpret_cast<float4*>(p) = make_float4(x[0], x[1], x[2], x[3]);
}
__device__ __forceinline__ void store4(bf16* p, const float (&x)[4]) {
  *reinterpret_cast<uint2*>(p) = make_uint2(pair_bits(x[0], x[1]), pair_bits(x[2], x[3]));
}

/// Copies rows [0, rows) of `from`, times `scale`, to shared memory; zeros for the other rows and for columns
/// from head_dim on. All loads are issued before the first is used.
template <typename Tile, typename T>
__device__ __forceinline__ void load_tile(const T* from, int64_t stride, int64_t rows, int head_dim,
                                          float scale, float* to /*[kTile, kRow]*/) {
  constexpr int kPacks = Tile::kPadded / kPack;  // per row
  constexpr int kLoads = Tile::kTile * kPacks / kAttentionThreads;
  static_assert(kLoads * kAttentionThreads == Tile::kTile * kPacks);
  RawPack<T> raw[kLoads];
#pragma unroll
  for (int i = 0; i < kLoads; ++i) {
    const int at = static_cast<int>(threadIdx.x) + i * kAttentionThreads;
    const int row = at / kPacks, column = at % kPacks * kPack;
    raw[i] = row < rows && column < head_dim ? load_raw(from + row * stride + column) : RawPack<T>{};
  }
#pragma unroll
  for (int i = 0; i < kLoads; ++i) {
    const int at = static_cast<int>(threadIdx.x) + i * kAttentionThreads;
    Pack pack = unpack(raw[i]);
#pragma unroll
    for (float& x : pack.x) x *= scale;
    store_pack(to + at / kPacks * Tile::kRow + at % kPacks * kPack, pack);
  }
}

/// dots[i][j] = a_row(y + 16 i) . b_row(x + 16 j), over head_dim.
template <typename Tile>
__device__ __forceinline__ void dot_rows(const float* a /*[kTile, kRow]*/, const float* b /*[kTile, kRow]*/,
                                         int head_dim, typename Tile::Scores& dots) {
  constexpr int kOwned = Tile::kOwned;
  const int x = threadIdx.x % kAttentionSide, y = threadIdx.x / kAttentionSide;
#pragma unroll
  for (int i = 0; i < kOwned; ++i)
#pragma unroll
    for (int j = 0; j < kOwned; ++j) dots[i][j] = 0;
#pragma unroll 2
  for (int d = 0; d < head_dim; d += 4) {
    float4 left[kOwned];
#pragma unroll
    for (int i = 0; i < kOwned; ++i) left[i] = load4(a + (y + kAttentionSide * i) * Tile::kRow + d);
#pragma unroll
    for (int j = 0; j < kOwned; ++j) {
      const float4 right = load4(b + (x + kAttentionSide * j) * Tile::kRow + d);
#pragma unroll
      for (int i = 0; i < kOwned; ++i) {
        dots[i][j] = fmaf(left[i].x, right.x, dots[i][j]);
        dots[i][j] = fmaf(left[i].y, right.y, dots[i][j]);
        dots[i][j] = fmaf(left[i].z, right.z, dots[i][j]);
        dots[i][j] = fmaf(left[i].w, right.w, dots[i][j]);
      }
    }
  }
}

/// Writes the thread's scores to shared memory. The same half of a warp reads them in add_product().
template <typename Tile>
__device__ __forceinline__ void store_scores(const typename Tile::Scores& scores,
                                             float* to /*[kTile, kScoreRow]*/) {
  const int x = threadIdx.x % kAttentionSide, y = threadIdx.x / kAttentionSide;
  __syncwarp();  // the previous scores have been read
#pragma unroll
  for (int i = 0; i < Tile::kOwned; ++i)
#pragma unroll
    for (int j = 0; j < Tile::kOwned; ++j)
      to[(y + kAttentionSide * i) * Tile::kScoreRow + x + kAttentionSide * j] = scores[i][j];
  __syncwarp();
}

/// sum [kTile, head_dim] += scores [kTile, kTile] rows [kTile, head_dim].
template <typename Tile>
__device__ __forceinline__ void add_product(const float* scores /*[kTile, kScoreRow]*/,
                                            const float* rows /*[kTile, kRow]*/,
                                            typename Tile::Results& sum) {
  constexpr int kOwned = Tile::kOwned;
  const int x = threadIdx.x % kAttentionSide, y = threadIdx.x / kAttentionSide;
#pragma unroll 2
  for (int c = 0; c < Tile::kTile; c += 4) {
    float weight[kOwned][4];
#pragma unroll
    for (int i = 0; i < kOwned; ++i) {
      const float4 w = load4(scores + (y + kAttentionSide * i) * Tile::kScoreRow + c);
      weight[i][0] = w.x, weight[i][1] = w.y, weight[i][2] = w.z, weight[i][3] = w.w;
    }
#pragma unroll
    for (int u = 0; u < 4; ++u)
#pragma unroll
      for (int g = 0; g < Tile::kGroups; ++g) {
        const float4 row = load4(rows + (c + u) * Tile::kRow + 4 * (kAttentionSide * g + x));
#pragma unroll
        for (int i = 0; i < kOwned; ++i) {
          sum[i][g][0] = fmaf(weight[i][u], row.x, sum[i][g][0]);
          sum[i][g][1] = fmaf(weight[i][u], row.y, sum[i][g][1]);
          sum[i][g][2] = fmaf(weight[i][u], row.z, sum[i][g][2]);
          sum[i][g][3] = fmaf(weight[i][u], row.w, sum[i][g][3]);
        }
      }
  }
}

/// Writes the thread's results, times factor[row], to rows [0, rows) of `to`.
template <typename Tile, typename T>
__device__ __forceinline__ void store_results(const typename Tile::Results& results,
                                              const float (&factor)[Tile::kOwned], int64_t rows, int head_dim,
                                              T* to, int64_t stride) {
  const int x = threadIdx.x % kAttentionSide, y = threadIdx.x / kAttentionSide;
#pragma unroll
  for (int i = 0; i < Tile::kOwned; ++i) {
    const int row = y + kAttentionSide * i;
    if (row >= rows) continue;
#pragma unroll
    for (int g = 0; g < Tile::kGroups; ++g) {
      const int column = 4 * (kAttentionSide * g + x);
      if (column >= head_dim) continue;
      float scaled[4];
#pragma unroll
      for (int e = 0; e < 4; ++e) scaled[e] = results[i][g][e] * factor[i];
      store4(to + row * stride + column, scaled);
    }
  }
}

/// Shared memory of a block that holds kBuffers tiles of rows, one of scores and two numbers per row.
template <typename Tile, int kBuffers>
constexpr int64_t attention_shared_bytes() {
  return (int64_t{kBuffers} * Tile::kFloats + Tile::kScoreFloats + 2 * Tile::kTile) * int64_t{sizeof(float)};
}

/// Calls body.operator()<Tile>() with the tile for this head_dim: the largest
/// of which kBuffers fit into the most shared memory a block may have (163
/// KiB on sm_80, 227 KiB on sm_90); half that tile on GPUs with less.
template <int kBuffers, typename Body>
void with_attention_tile(int64_t head_dim, const Body& body) {
  constexpr int64_t kCommonLimit = 99 << 10;  // sm_86, sm_89, sm_120
  constexpr int64_t kDataCentreLimit = 163 << 10;
  int device = 0, limit = 0;
  DR_CUDA_CHECK(cudaGetDevice(&device));
  DR_CUDA_CHECK(cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  const auto with_padded = [&]<int kPadded>() {
    constexpr bool kWhole =
        attention_shared_bytes<AttentionTile<64, kPadded>, kBuffers>() <= kDataCentreLimit;
    using Large = AttentionTile<kWhole ? 64 : 32, kPadded>;
    using Small = AttentionTile<Large::kTile / 2, kPadded>;
    constexpr int64_t kBytes = attention_shared_bytes<Large, kBuffers>();
    if constexpr (kBytes > kCommonLimit) {
      if (limit < kBytes) return body.template operator()<Small>();
    }
    return body.template operator()<Large>();
  };
  if (head_dim <= 64) return with_padded.template operator()<64>();
  if (head_dim <= 128) return with_padded.template operator()<128>();
  return with_padded.template operator()<256>();
}

}  // namespace depthroute::cuda
