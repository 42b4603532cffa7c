// Causal attention, forward: out = softmax(scale q k^T) v, lse = log of the sums of exponentials.
//
// One block per tile of queries, head and sequence. The tile of q stays in shared memory; tiles of keys and
// values take turns in one buffer. The softmax is online over the tiles (Milakov and Gimelshein,
// arXiv:1805.02867; tiles as in FlashAttention, arXiv:2205.14135): a row's sums under the old maximum are
// multiplied by e^(old - new). Tiles above the diagonal are skipped.
#include <cmath>

#include "kernels/cuda/attention_plain.h"
#include "kernels/cuda/attention_tile.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/reduce.cuh"

namespace depthroute::cuda {
namespace {

constexpr int kBuffers = 2;  // q; k and v in turn

__device__ __forceinline__ float half_warp_max(float x) {
#pragma unroll
  for (int lanes = kAttentionSide / 2; lanes > 0; lanes /= 2)
    x = fmaxf(x, __shfl_xor_sync(kFullWarp, x, lanes));
  return x;
}
__device__ __forceinline__ float half_warp_sum(float x) {
#pragma unroll
  for (int lanes = kAttentionSide / 2; lanes > 0; lanes /= 2) x += __shfl_xor_sync(kFullWarp, x, lanes);
  return x;
}

template <typename Tile, typename T>
__global__ void __launch_bounds__(kAttentionThreads, 1)
    forward_kernel(AttentionProblem p, const T* q /*[B*T, H*K]*/, const T* k /*[B*T, G*K]*/,
                   const T* v /*[B*T, v_stride]*/, int64_t v_stride, T* out /*[B*T, H*K]*/,
                   float* lse /*[B, H, T]*/) {
  constexpr int kTile = Tile::kTile, kOwned = Tile::kOwned;
  DR_DYNAMIC_SHARED(float, shared);
  float* const query = shared;                      // [kTile, kRow]
  float* const streamed = query + Tile::kFloats;    // [kTile, kRow]: keys, then values
  float* const weights = streamed + Tile::kFloats;  // [kTile, kScoreRow]
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
  float maximum[kOwned], sum[kOwned];  // `sum` is over this thread's columns only
  typename Tile::Results result;
#pragma unroll
  for (int i = 0; i < kOwned; ++i) {
    maximum[i] = -INFINITY;
    sum[i] = 0;
#pragma unroll
    for (int g = 0; g < Tile::kGroups; ++g)
#pragma unroll
      for (int e = 0; e < 4; ++e) result[i][g][e] = 0;
  }

  for (int block = 0; block <= tile; ++block) {
    const int64_t key = int64_t{block} * kTile;
    load_tile<Tile>(k_head + key * k_stride, k_stride, p.seq_len - key, p.head_dim, 1.0f, streamed);
    __syncthreads();
    typename Tile::Scores score;
    dot_rows<Tile>(query, streamed, p.head_dim, score);
    __syncthreads();
    load_tile<Tile>(v_head + key * v_stride, v_stride, p.seq_len - key, p.head_dim, 1.0f, streamed);

#pragma unroll
    for (int i = 0; i < kOwned; ++i) {
      // On the diagonal a row sees at least its own token, so no maximum stays at -infinity.
      float largest = maximum[i];
#pragma unroll
      for (int j = 0; j < kOwned; ++j) {
        if (block == tile && x + kAttentionSide * j > y + kAttentionSide * i) score[i][j] = -INFINITY;
        largest = fmaxf(largest, score[i][j]);
      }
      largest = half_warp_max(largest);
      const float correction = expf(maximum[i] - largest);
      maximum[i] = largest;
      sum[i] *= correction;
#pragma unroll
      for (int j = 0; j < kOwned; ++j) {
        score[i][j] = expf(score[i][j] - largest);
        sum[i] += score[i][j];
      }
#pragma unroll
      for (int g = 0; g < Tile::kGroups; ++g)
#pragma unroll
        for (int e = 0; e < 4; ++e) result[i][g][e] *= correction;
    }
    store_scores<Tile>(score, weights);
    __syncthreads();
    add_product<Tile>(weights, streamed, result);
    __syncthreads();
  }

  float inverse[kOwned];
#pragma unroll
  for (int i = 0; i < kOwned; ++i) {
    const float total = half_warp_sum(sum[i]);
    inverse[i] = 1.0f / total;
    const int64_t row = first + y + kAttentionSide * i;
    if (x == 0 && row < p.seq_len)
      lse[(int64_t{sequence} * p.heads + head) * p.seq_len + row] = maximum[i] + logf(total);
  }
  store_results<Tile>(result, inverse, rows, p.head_dim, out + q_at, q_stride);
}

}  // namespace

void plain_attention_forward(Stream stream, const AttentionShape& shape, const Tensor& q, const Tensor& k,
                             const Tensor& v, const Tensor& out, const Tensor& lse) {
  DR_CHECK(shape.head_dim % kPack == 0 && shape.head_dim <= kPlainAttentionMaxHeadDim);
  with_activation_type(q.dtype, [&]<typename T>() {
    with_attention_tile<kBuffers>(shape.head_dim, [&]<typename Tile>() {
      const AttentionProblem problem = attention_problem(shape, Tile::kTile);
      const int64_t blocks = problem.tiles * shape.batch * shape.num_heads;
      launch(forward_kernel<Tile, T>, dim3(narrow<unsigned>(blocks)), dim3(kAttentionThreads),
             attention_shared_bytes<Tile, kBuffers>(), handle(stream), problem, pointer<T>(q), pointer<T>(k),
             pointer<T>(v), v.row_stride(), pointer<T>(out), pointer<float>(lse));
    });
  });
}

}  // namespace depthroute::cuda
