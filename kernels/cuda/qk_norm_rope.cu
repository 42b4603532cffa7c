// RMSNorm over each head of q and k, then the rotation of rotate-half RoPE: with K = head_dim and i < K/2,
//   out[i]       = y[i] cos_i - y[i + K/2] sin_i
//   out[i + K/2] = y[i + K/2] cos_i + y[i] sin_i,   y = x * r * weight, r = 1 / sqrt(mean(x^2) + eps)
// Without weights, y = x.
// A warp takes a token; a group of its lanes (16 for K = 128) takes a head. Each lane holds 4 elements of the
// head's first half and the 4 they are rotated with (4, because half a head is only a multiple of 4). So
// cosines, sines and weights are loaded once for all heads of a token, and sums over a head are shuffles
// within the group.
#include <bit>
#include <cmath>
#include <limits>

#include "kernels/cuda/check.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vector.cuh"
#include "kernels/op_table.h"

namespace depthroute::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarp;
constexpr int kMaxHeadDim = 256;  // 2 halves of 32 lanes
constexpr int64_t kMaxHeads = 1 << 20;

/// What a lane holds of a row of K values: elements 4 p ... of either half.
struct Halves {
  Quad low, high;
};

struct Heads {
  int num_heads, num_kv_heads, head_dim;
  int group;  // lanes per head: a power of two, at least K / 8
  int seq_len;

  // In 32 bits: a 64-bit remainder is a function call, which spills registers.
  __device__ int64_t position(int64_t token) const {
    return static_cast<uint32_t>(token) % static_cast<uint32_t>(seq_len);
  }
};

/// Where a lane works: which of the heads that its warp takes at once, and where in the head.
struct Place {
  int group, dim;
  int head;     // of the warp's 32 / group heads
  int offset;   // of its elements in either half
  bool inside;  // K / 8 need not be a power of two

  __device__ explicit Place(const Heads& h)
      : group(h.group),
        dim(h.head_dim),
        head(static_cast<int>(threadIdx.x) % kWarp / h.group),
        offset(static_cast<int>(threadIdx.x) % h.group * kQuad),
        inside(offset < h.head_dim / 2) {}
  __device__ int heads_at_once() const { return kWarp / group; }

  template <typename T>
  __device__ Halves load(const T* row, bool really = true) const {
    if (!inside || !really) return {};
    return {load_quad(row + offset), load_quad(row + dim / 2 + offset)};
  }
  template <typename T>
  __device__ void store(T* row, const Halves& values) const {
    store_quad(row + offset, values.low);
    store_quad(row + dim / 2 + offset, values.high);
  }
  /// Total over the lanes of the head, in each of them.
  __device__ float head_sum(float x) const {
    for (int lanes = group / 2; lanes > 0; lanes /= 2) x += __shfl_xor_sync(kFullWarp, x, lanes);
    return x;
  }
};

__device__ __forceinline__ float inverse_rms(const Place& place, const Halves& x, float eps) {
  float squares = 0;
#pragma unroll
  for (int k = 0; k < kQuad; ++k) squares += x.low.x[k] * x.low.x[k] + x.high.x[k] * x.high.x[k];
  return 1.0f / sqrtf(place.head_sum(squares) / static_cast<float>(place.dim) + eps);
}

// `rope`: cosines in the low half, sines in the high one.
template <typename T>
__device__ __forceinline__ void forward_heads(const Place& place, int heads, const T* x /*[heads,K]*/,
                                              const float* weights /*[K]*/, float eps, const Halves& rope,
                                              T* out /*[heads,K]*/) {
  const Halves weight = place.load(weights);
#pragma unroll 2
  for (int first = 0; first < heads; first += place.heads_at_once()) {
    const int head = first + place.head;
    const bool real = head < heads;
    const Halves in = place.load(x + head * place.dim, real);
    const float r = inverse_rms(place, in, eps);
    Halves turned;
#pragma unroll
    for (int k = 0; k < kQuad; ++k) {
      const float low = in.low.x[k] * r * weight.low.x[k];
      const float high = in.high.x[k] * r * weight.high.x[k];
      turned.low.x[k] = low * rope.low.x[k] - high * rope.high.x[k];
      turned.high.x[k] = high * rope.low.x[k] + low * rope.high.x[k];
    }
    if (place.inside && real) place.store(out + head * place.dim, turned);
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(int64_t n, Heads heads, const T* qkv /*[N, (H+2G)*K]*/, const float* q_weight /*[K]*/,
                   const float* k_weight /*[K]*/, float eps, const float* rope /*[T,K]*/, T* q /*[N,H*K]*/,
                   T* k /*[N,G*K]*/) {
  const int64_t token = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp;
  if (token >= n) return;
  const Place place(heads);
  const int64_t dim = heads.head_dim;
  const int64_t q_cols = heads.num_heads * dim;
  const int64_t kv_cols = heads.num_kv_heads * dim;
  const T* row = qkv + token * (q_cols + 2 * kv_cols);
  const Halves angles = place.load(rope + heads.position(token) * dim);
  forward_heads(place, heads.num_heads, row, q_weight, eps, angles, q + token * q_cols);
  forward_heads(place, heads.num_kv_heads, row + q_cols, k_weight, eps, angles, k + token * kv_cols);
}

// The inverse rotation gives dy; the RMSNorm's backward follows, with g = dy * weight:
//   dx = r g - (r^3 / K) (g . x) x,   dweight += dy * x * r
// One token's heads of q or k.
template <typename T>
__device__ __forceinline__ void backward_heads(const Place& place, int heads, const T* dout /*[heads,K]*/,
                                               const T* x /*[heads,K]*/, const Halves& weight, float eps,
                                               const Halves& rope, T* dx /*[heads,K]*/, Halves& dweight) {
#pragma unroll 1
  for (int first = 0; first < heads; first += place.heads_at_once()) {
    const int head = first + place.head;
    const bool real = head < heads;
    const Halves in = place.load(x + head * place.dim, real);
    const Halves d = place.load(dout + head * place.dim, real);
    const float r = inverse_rms(place, in, eps);
    Halves dy;
    float dot = 0;
#pragma unroll
    for (int k = 0; k < kQuad; ++k) {
      dy.low.x[k] = d.low.x[k] * rope.low.x[k] + d.high.x[k] * rope.high.x[k];
      dy.high.x[k] = d.high.x[k] * rope.low.x[k] - d.low.x[k] * rope.high.x[k];
      dot += dy.low.x[k] * weight.low.x[k] * in.low.x[k] + dy.high.x[k] * weight.high.x[k] * in.high.x[k];
    }
    const float projection = place.head_sum(dot) * r * r * r / static_cast<float>(place.dim);
    Halves dxs;
#pragma unroll
    for (int k = 0; k < kQuad; ++k) {
      const float low = dy.low.x[k] * r, high = dy.high.x[k] * r;
      dweight.low.x[k] += low * in.low.x[k];
      dweight.high.x[k] += high * in.high.x[k];
      dxs.low.x[k] = low * weight.low.x[k] - projection * in.low.x[k];
      dxs.high.x[k] = high * weight.high.x[k] - projection * in.high.x[k];
    }
    if (place.inside && real) place.store(dx + head * place.dim, dxs);
  }
}

// Adds up the warp's heads (over lanes that hold the same elements) and writes the sums to the warp's place
// in `sums`.
__device__ __forceinline__ void put_sums(const Place& place, Halves dweight, float* sums /*[K], shared*/) {
#pragma unroll
  for (int k = 0; k < kQuad; ++k) {
    for (int lanes = place.group; lanes < kWarp; lanes *= 2) {
      dweight.low.x[k] += __shfl_xor_sync(kFullWarp, dweight.low.x[k], lanes);
      dweight.high.x[k] += __shfl_xor_sync(kFullWarp, dweight.high.x[k], lanes);
    }
  }
  if (place.inside && place.head == 0) place.store(sums, dweight);
}

// The q heads of the warp's tokens, or the k heads. The weight's gradient stays in registers until the last
// of them.
template <typename T>
__device__ __forceinline__ void backward_tokens(
    const Place& place, const Heads& all, const TokenRange& tokens, int heads, const T* dout /*[N, heads*K]*/,
    const T* x /*[N, (H+2G)*K], from the first head*/, const float* weights /*[K]*/, float eps,
    const float* rope /*[T,K]*/, T* dx /*as x*/, float* sums /*[K], shared*/) {
  const Halves weight = place.load(weights);
  const int64_t row = static_cast<int64_t>(all.num_heads + 2 * all.num_kv_heads) * place.dim;
  const int64_t dout_row = static_cast<int64_t>(heads) * place.dim;
  Halves dweight = {};
  for (int64_t token = tokens.begin + threadIdx.x / kWarp; token < tokens.end; token += kWarps) {
    const Halves angles = place.load(rope + all.position(token) * place.dim);
    backward_heads(place, heads, dout + token * dout_row, x + token * row, weight, eps, angles,
                   dx + token * row, dweight);
  }
  put_sums(place, dweight, sums);
}

// A block takes a chunk of tokens; each of its 8 warps takes every eighth token.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    backward_kernel(int64_t n, Heads heads, const T* dq /*[N,H*K]*/, const T* dk /*[N,G*K]*/,
                    const T* qkv /*[N, (H+2G)*K]*/, const float* q_weight /*[K]*/,
                    const float* k_weight /*[K]*/, float eps, const float* rope /*[T,K]*/,
                    T* dqkv /*[N, (H+2G)*K]*/, float* partials /*[chunks, 2*K]*/) {
  __shared__ __align__(16) float sums[kWarps][2 * kMaxHeadDim];
  const Place place(heads);
  const int dim = heads.head_dim;
  const int q_cols = heads.num_heads * dim;
  float* warp_sums = sums[threadIdx.x / kWarp];
  const TokenRange tokens = chunk_tokens(n, gridDim.x, blockIdx.x);
  backward_tokens(place, heads, tokens, heads.num_heads, dq, qkv, q_weight, eps, rope, dqkv, warp_sums);
  backward_tokens(place, heads, tokens, heads.num_kv_heads, dk, qkv + q_cols, k_weight, eps, rope,
                  dqkv + q_cols, warp_sums + dim);
  __syncthreads();
  for (int c = threadIdx.x; c < 2 * dim; c += kThreads) {
    float sum = 0;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) sum += sums[w][c];
    partials[static_cast<int64_t>(blockIdx.x) * 2 * dim + c] = sum;
  }
}

// One token's heads of q or k, turned. `rope`: cosines in the low half, sines in the high one.
template <typename T>
__device__ __forceinline__ void rotate_heads(const Place& place, int heads, const T* x /*[heads,K]*/,
                                             const Halves& rope, T* out /*[heads,K]*/) {
#pragma unroll 2
  for (int first = 0; first < heads; first += place.heads_at_once()) {
    const int head = first + place.head;
    const bool real = head < heads;
    const Halves in = place.load(x + head * place.dim, real);
    Halves turned;
#pragma unroll
    for (int k = 0; k < kQuad; ++k) {
      turned.low.x[k] = in.low.x[k] * rope.low.x[k] - in.high.x[k] * rope.high.x[k];
      turned.high.x[k] = in.high.x[k] * rope.low.x[k] + in.low.x[k] * rope.high.x[k];
    }
    if (place.inside && real) place.store(out + head * place.dim, turned);
  }
}

// RoPE alone. `direction`: 1, or -1 to turn back.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    rotate_kernel(int64_t n, Heads heads, const T* q /*[N,H*K]*/, int64_t q_stride, const T* k /*[N,G*K]*/,
                  int64_t k_stride, const float* rope /*[T,K]*/, float direction, T* q_out /*[N,H*K]*/,
                  int64_t q_out_stride, T* k_out /*[N,G*K]*/, int64_t k_out_stride) {
  const int64_t token = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp;
  if (token >= n) return;
  const Place place(heads);
  Halves angles = place.load(rope + heads.position(token) * heads.head_dim);
#pragma unroll
  for (int i = 0; i < kQuad; ++i) angles.high.x[i] *= direction;
  rotate_heads(place, heads.num_heads, q + token * q_stride, angles, q_out + token * q_out_stride);
  rotate_heads(place, heads.num_kv_heads, k + token * k_stride, angles, k_out + token * k_out_stride);
}

// In float64: angles grow with the position, and in float32 late positions would lose many bits.
__global__ void rope_table_kernel(int64_t seq_len, int64_t dim, double theta, float* table /*[T,K]*/) {
  const int64_t half = dim / 2;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index >= seq_len * half) return;
  const int64_t t = index / half;
  const int64_t i = index % half;
  const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(dim);
  const double angle = static_cast<double>(t) * pow(theta, exponent);
  table[t * dim + i] = static_cast<float>(cos(angle));
  table[t * dim + half + i] = static_cast<float>(sin(angle));
}

Heads heads_of(const AttentionShape& shape) {
  DR_CHECK_MSG(shape.head_dim % 8 == 0 && shape.head_dim <= kMaxHeadDim,
               "q/k norm and RoPE on cuda: head_dim must be a multiple of 8, at most 256");
  DR_CHECK(shape.num_heads <= kMaxHeads && shape.num_kv_heads <= kMaxHeads);  // offsets in a row are int
  DR_CHECK(shape.tokens() <= std::numeric_limits<int>::max());
  const int dim = narrow<int>(shape.head_dim);
  const int group = static_cast<int>(std::bit_ceil(static_cast<unsigned>(dim / (2 * kQuad))));
  return {narrow<int>(shape.num_heads), narrow<int>(shape.num_kv_heads), dim, group,
          narrow<int>(shape.seq_len)};
}

/// RoPE alone, from q and k to q_out and k_out.
void rotate(Stream stream, const AttentionShape& shape, const Tensor& q, const Tensor& k, const Tensor& rope,
            float direction, const Tensor& q_out, const Tensor& k_out) {
  const int64_t n = shape.tokens();
  const Heads heads = heads_of(shape);
  if (n == 0) return;
  with_activation_type(q.dtype, [&]<typename T>() {
    launch(rotate_kernel<T>, dim3(narrow<int>(div_ceil(n, kWarps))), dim3(kThreads), 0, handle(stream), n,
           heads, pointer<T>(q), q.row_stride(), pointer<T>(k), k.row_stride(), pointer<float>(rope),
           direction, pointer<T>(q_out), q_out.row_stride(), pointer<T>(k_out), k_out.row_stride());
  });
}

}  // namespace

void rope_table(Stream stream, double theta, const Tensor& table) {
  const int64_t pairs = table.rows() * (table.cols() / 2);
  if (pairs == 0) return;
  launch(rope_table_kernel, dim3(narrow<int>(div_ceil(pairs, kThreads))), dim3(kThreads), 0, handle(stream),
         table.rows(), table.cols(), theta, pointer<float>(table));
}

void qk_norm_rope_forward(Stream stream, const AttentionShape& shape, const Tensor& qkv,
                          const Tensor& q_weight, const Tensor& k_weight, float eps, const Tensor& rope,
                          const Tensor& q, const Tensor& k) {
  if (!q_weight.defined())
    return rotate(stream, shape, shape.q_columns(qkv), shape.k_columns(qkv), rope, 1, q, k);
  const int64_t n = shape.tokens();
  const Heads heads = heads_of(shape);
  if (n == 0) return;
  with_activation_type(qkv.dtype, [&]<typename T>() {
    launch(forward_kernel<T>, dim3(narrow<int>(div_ceil(n, kWarps))), dim3(kThreads), 0, handle(stream), n,
           heads, pointer<T>(qkv), pointer<float>(q_weight), pointer<float>(k_weight), eps,
           pointer<float>(rope), pointer<T>(q), pointer<T>(k));
  });
}

void qk_norm_rope_backward(Stream stream, const AttentionShape& shape, const Tensor& dq, const Tensor& dk,
                           const Tensor& qkv, const Tensor& q_weight, const Tensor& k_weight, float eps,
                           const Tensor& rope, const Tensor& dqkv, const Tensor& dq_weight,
                           const Tensor& dk_weight, const Tensor& workspace) {
  if (!q_weight.defined())
    return rotate(stream, shape, dq, dk, rope, -1, shape.q_columns(dqkv), shape.k_columns(dqkv));
  const int64_t n = shape.tokens();
  const int64_t dim = shape.head_dim;
  const Heads heads = heads_of(shape);
  if (n == 0) return;
  const int64_t chunks = reduction_chunks(n);
  float* partials = pointer<float>(workspace);
  with_activation_type(qkv.dtype, [&]<typename T>() {
    launch(backward_kernel<T>, dim3(narrow<int>(chunks)), dim3(kThreads), 0, handle(stream), n, heads,
           pointer<T>(dq), pointer<T>(dk), pointer<T>(qkv), pointer<float>(q_weight),
           pointer<float>(k_weight), eps, pointer<float>(rope), pointer<T>(dqkv), partials);
  });
  if (!dq_weight.defined()) return;
  const PartialSums sums[] = {{workspace, 2 * dim, 0, dq_weight}, {workspace, 2 * dim, dim, dk_weight}};
  add_partial_sums(stream, n, sums);
}

}  // namespace depthroute::cuda
