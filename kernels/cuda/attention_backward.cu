// Causal attention, backward. With P = e^(scale q k^T - lse) (0 above the diagonal), dP = dout v^T and
// delta_i = dout_i . out_i = sum_j P_ij dP_ij:
//   dS = P (dP - delta);   dq = scale dS k;   dk = scale dS^T q;   dv = P^T dout
// Three kernels: delta, to the workspace; dq, one block per tile of queries, head and sequence; dk and dv,
// one block per tile of keys, kv head and sequence, which visits the group's heads and the tiles of queries
// in order. P is computed twice, but no block adds to what another one writes: every sum has a fixed order,
// without atomics.
#include <cmath>

#include "kernels/cuda/attention_plain.h"
#include "kernels/cuda/attention_tile.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/reduce.cuh"

namespace depthroute::cuda {
namespace {

constexpr int kBuffers = 4;  // q, dout, k, v

template <typename Tile>
__device__ __forceinline__ void clear(typename Tile::Results& results) {
#pragma unroll
  for (int i = 0; i < Tile::kOwned; ++i)
#pragma unroll
    for (int g = 0; g < Tile::kGroups; ++g)
#pragma unroll
      for (int e = 0; e < 4; ++e) results[i][g][e] = 0;
}

constexpr int kDeltaRows = 8;  // per block, a warp each

/// delta[b, h, t] = dout . out of one token and head.
template <typename T>
__global__ void delta_kernel(AttentionProblem p, const T* dout /*[B*T, H*K]*/, const T* out /*[B*T, H*K]*/,
                             float* delta /*[B, H, T]*/) {
  const int lane = threadIdx.x % kWarp;
  const int64_t row = int64_t{blockIdx.x} * kDeltaRows + threadIdx.x / kWarp;  // of [B*T*H, K]
  if (row >= int64_t{p.batch} * p.seq_len * p.heads) return;
  float sum = 0;
  if (lane * kPack < p.head_dim) {
    const Pack a = load_pack(dout + row * p.head_dim + lane * kPack);
    const Pack b = load_pack(out + row * p.head_dim + lane * kPack);
#pragma unroll
    for (int i = 0; i < kPack; ++i) sum = fmaf(a.x[i], b.x[i], sum);
  }
  sum = warp_sum(sum);
  const int64_t head = row % p.heads, token = row / p.heads;
  const int64_t sequence = token / p.seq_len;
  if (lane == 0) delta[(sequence * p.heads + head) * p.seq_len + token % p.seq_len] = sum;
}

template <typename Tile, typename T>
__global__ void __launch_bounds__(kAttentionThreads, 1)
    dq_kernel(AttentionProblem p, const T* dout /*[B*T, H*K]*/, const T* q /*[B*T, H*K]*/,
              const T* k /*[B*T, G*K]*/, const T* v /*[B*T, v_stride]*/, int64_t v_stride,
              const float* lse /*[B, H, T]*/, const float* delta /*[B, H, T]*/, T* dq /*[B*T, H*K]*/) {
  constexpr int kTile = Tile::kTile, kOwned = Tile::kOwned;
  DR_DYNAMIC_SHARED(float, shared);
  float* const query = shared;                     // [kTile, kRow]
  float* const gradient = query + Tile::kFloats;   // [kTile, kRow]: dout
  float* const keys = gradient + Tile::kFloats;    // [kTile, kRow]
  float* const values = keys + Tile::kFloats;      // [kTile, kRow]
  float* const exchange = values + Tile::kFloats;  // [kTile, kScoreRow]: dS
  const int x = threadIdx.x % kAttentionSide, y = threadIdx.x / kAttentionSide;

  // Start with the longest tiles, those at the end of the sequences.
  const int groups = p.batch * p.heads;
  const int tile = p.tiles - 1 - static_cast<int>(blockIdx.x) / groups;
  const int sequence = static_cast<int>(blockIdx.x) % groups / p.heads;
  const int head = static_cast<int>(blockIdx.x) % p.heads;
  const int kv_head = head / (p.heads / p.kv_heads);
  const int64_t first = int64_t{tile} * kTile, rows = p.seq_len - first;
  const int64_t token = sequence * p.seq_len;
  const int64_t q_stride = int64_t{p.heads} * p.head_dim, k_stride = int64_t{p.kv_heads} * p.head_dim;
  const int64_t q_at = (token + first) * q_stride + int64_t{head} * p.head_dim;
  const T* k_head = k + token * k_stride + int64_t{kv_head} * p.head_dim;
  const T* v_head = v + token * v_stride + int64_t{kv_head} * p.head_dim;

  load_tile<Tile>(q + q_at, q_stride, rows, p.head_dim, p.scale, query);
  load_tile<Tile>(dout + q_at, q_stride, rows, p.head_dim, 1.0f, gradient);
  float row_lse[kOwned], row_delta[kOwned], scale[kOwned];
  typename Tile::Results result;
  clear<Tile>(result);
#pragma unroll
  for (int i = 0; i < kOwned; ++i) {
    const int64_t row = y + kAttentionSide * i;
    const int64_t at = (int64_t{sequence} * p.heads + head) * p.seq_len + first + row;
    row_lse[i] = row < rows ? lse[at] : 0.0f;
    row_delta[i] = row < rows ? delta[at] : 0.0f;
    scale[i] = p.scale;
  }

  for (int block = 0; block <= tile; ++block) {
    const int64_t key = int64_t{block} * kTile;
    load_tile<Tile>(k_head + key * k_stride, k_stride, p.seq_len - key, p.head_dim, 1.0f, keys);
    load_tile<Tile>(v_head + key * v_stride, v_stride, p.seq_len - key, p.head_dim, 1.0f, values);
    __syncthreads();
    typename Tile::Scores score, dscore;
    dot_rows<Tile>(query, keys, p.head_dim, score);
    dot_rows<Tile>(gradient, values, p.head_dim, dscore);
#pragma unroll
    for (int i = 0; i < kOwned; ++i)
#pragma unroll
      for (int j = 0; j < kOwned; ++j) {
        const bool visible = block < tile || x + kAttentionSide * j <= y + kAttentionSide * i;
        score[i][j] = visible ? expf(score[i][j] - row_lse[i]) * (dscore[i][j] - row_delta[i]) : 0.0f;
      }
    store_scores<Tile>(score, exchange);
    add_product<Tile>(exchange, keys, result);
    __syncthreads();
  }
  store_results<Tile>(result, scale, rows, p.head_dim, dq + q_at, q_stride);
}

template <typename Tile, typename T>
__global__ void __launch_bounds__(kAttentionThreads, 1)
    dk_dv_kernel(AttentionProblem p, const T* dout /*[B*T, H*K]*/, const T* q /*[B*T, H*K]*/,
                 const T* k /*[B*T, G*K]*/, const T* v /*[B*T, v_stride]*/, int64_t v_stride,
                 const float* lse /*[B, H, T]*/, const float* delta /*[B, H, T]*/, T* dk /*[B*T, G*K]*/,
                 T* dv /*[B*T, dv_stride]*/, int64_t dv_stride) {
  constexpr int kTile = Tile::kTile, kOwned = Tile::kOwned;
  DR_DYNAMIC_SHARED(float, shared);
  float* const keys = shared;                              // [kTile, kRow]
  float* const values = keys + Tile::kFloats;              // [kTile, kRow]
  float* const query = values + Tile::kFloats;             // [kTile, kRow]
  float* const gradient = query + Tile::kFloats;           // [kTile, kRow]: dout
  float* const exchange = gradient + Tile::kFloats;        // [kTile, kScoreRow]: P^T, then dS^T
  float* const query_lse = exchange + Tile::kScoreFloats;  // [kTile]
  float* const query_delta = query_lse + kTile;            // [kTile]
  const int x = threadIdx.x % kAttentionSide, y = threadIdx.x / kAttentionSide;

  // Start with the longest tiles, those at the beginning of the sequences.
  const int groups = p.batch * p.kv_heads;
  const int tile = static_cast<int>(blockIdx.x) / groups;
  const int sequence = static_cast<int>(blockIdx.x) % groups / p.kv_heads;
  const int kv_head = static_cast<int>(blockIdx.x) % p.kv_heads;
  const int group = p.heads / p.kv_heads;
  const int64_t first = int64_t{tile} * kTile, rows = p.seq_len - first;
  const int64_t token = sequence * p.seq_len;
  const int64_t q_stride = int64_t{p.heads} * p.head_dim, k_stride = int64_t{p.kv_heads} * p.head_dim;
  const int64_t column = int64_t{kv_head} * p.head_dim;

  load_tile<Tile>(k + (token + first) * k_stride + column, k_stride, rows, p.head_dim, 1.0f, keys);
  load_tile<Tile>(v + (token + first) * v_stride + column, v_stride, rows, p.head_dim, 1.0f, values);
  typename Tile::Results dkey, dvalue;
  clear<Tile>(dkey);
  clear<Tile>(dvalue);

  for (int head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    for (int block = tile; block < p.tiles; ++block) {
      const int64_t begin = int64_t{block} * kTile, queries = p.seq_len - begin;
      const int64_t at = (token + begin) * q_stride + int64_t{head} * p.head_dim;
      load_tile<Tile>(q + at, q_stride, queries, p.head_dim, p.scale, query);
      load_tile<Tile>(dout + at, q_stride, queries, p.head_dim, 1.0f, gradient);
      if (static_cast<int>(threadIdx.x) < kTile) {
        const int64_t row = (int64_t{sequence} * p.heads + head) * p.seq_len + begin + threadIdx.x;
        query_lse[threadIdx.x] = threadIdx.x < queries ? lse[row] : 0.0f;
        query_delta[threadIdx.x] = threadIdx.x < queries ? delta[row] : 0.0f;
      }
      __syncthreads();

      typename Tile::Scores score, dscore;  // transposed: rows are keys, columns are queries
      dot_rows<Tile>(keys, query, p.head_dim, score);
#pragma unroll
      for (int j = 0; j < kOwned; ++j) {
        const int c = x + kAttentionSide * j;
        const float of_query = query_lse[c];
#pragma unroll
        for (int i = 0; i < kOwned; ++i) {
          const bool visible = c < queries && (block > tile || y + kAttentionSide * i <= c);
          score[i][j] = visible ? expf(score[i][j] - of_query) : 0.0f;
        }
      }
      store_scores<Tile>(score, exchange);
      add_product<Tile>(exchange, gradient, dvalue);
      dot_rows<Tile>(values, gradient, p.head_dim, dscore);
#pragma unroll
      for (int j = 0; j < kOwned; ++j) {
        const float of_query = query_delta[x + kAttentionSide * j];
#pragma unroll
        for (int i = 0; i < kOwned; ++i) score[i][j] *= dscore[i][j] - of_query;
      }
      store_scores<Tile>(score, exchange);
      add_product<Tile>(exchange, query, dkey);  // query holds scale * q
      __syncthreads();
    }
  }
  float one[kOwned];
#pragma unroll
  for (float& factor : one) factor = 1.0f;
  store_results<Tile>(dkey, one, rows, p.head_dim, dk + (token + first) * k_stride + column, k_stride);
  store_results<Tile>(dvalue, one, rows, p.head_dim, dv + (token + first) * dv_stride + column, dv_stride);
}

}  // namespace

int64_t plain_attention_workspace(const AttentionShape& shape) {
  return checked_product(shape.tokens(), shape.num_heads);
}

void plain_attention_backward(Stream stream, const AttentionShape& shape, const Tensor& dout, const Tensor& q,
                              const Tensor& k, const Tensor& v, const Tensor& out, const Tensor& lse,
                              const Tensor& dq, const Tensor& dk, const Tensor& dv, const Tensor& workspace) {
  DR_CHECK(shape.head_dim % kPack == 0 && shape.head_dim <= kPlainAttentionMaxHeadDim);
  float* const delta = pointer<float>(workspace);  // [B, H, T]
  const int64_t rows = shape.tokens() * shape.num_heads;
  with_activation_type(q.dtype, [&]<typename T>() {
    launch(delta_kernel<T>, dim3(narrow<unsigned>(div_ceil(rows, kDeltaRows))), dim3(kDeltaRows * kWarp), 0,
           handle(stream), attention_problem(shape, 1), pointer<T>(dout), pointer<T>(out), delta);
    with_attention_tile<kBuffers>(shape.head_dim, [&]<typename Tile>() {
      constexpr int64_t kShared = attention_shared_bytes<Tile, kBuffers>();
      const AttentionProblem problem = attention_problem(shape, Tile::kTile);
      const int64_t tiles = problem.tiles * shape.batch;
      launch(dq_kernel<Tile, T>, dim3(narrow<unsigned>(tiles * shape.num_heads)), dim3(kAttentionThreads),
             kShared, handle(stream), problem, pointer<T>(dout), pointer<T>(q), pointer<T>(k), pointer<T>(v),
             v.row_stride(), pointer<float>(lse), delta, pointer<T>(dq));
      launch(dk_dv_kernel<Tile, T>, dim3(narrow<unsigned>(tiles * shape.num_kv_heads)),
             dim3(kAttentionThreads), kShared, handle(stream), problem, pointer<T>(dout), pointer<T>(q),
             pointer<T>(k), pointer<T>(v), v.row_stride(), pointer<float>(lse), delta, pointer<T>(dk),
             pointer<T>(dv), dv.row_stride());
    });
  });
}

}  // namespace depthroute::cuda
