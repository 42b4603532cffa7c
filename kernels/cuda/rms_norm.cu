// y = x * r * weight, r = 1 / sqrt(mean(x^2) + eps). A warp takes a row, and reads it the second time from
// the L1 cache: rows are a few kilobytes.
#include "kernels/cuda/check.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vector.cuh"
#include "kernels/op_table.h"

namespace depthroute::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarp;
constexpr int kStride = kWarp * kPack;  // elements a warp reads at once

template <typename T>
__global__ void __launch_bounds__(kThreads)
    rms_norm_forward_kernel(int64_t n, int64_t d, const T* x /*[N,D]*/, const float* weight /*[D]*/,
                            float eps, T* y /*[N,D]*/, float* rstd /*[N]*/) {
  const int lane = threadIdx.x % kWarp;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp;
  if (i >= n) return;
  const T* row = x + i * d;
  float squares = 0;
#pragma unroll 4
  for (int64_t c = lane * kPack; c < d; c += kStride) {
    const Pack p = load_pack(row + c);
#pragma unroll
    for (int k = 0; k < kPack; ++k) squares += p.x[k] * p.x[k];
  }
  const float r = 1.0f / sqrtf(warp_sum(squares) / static_cast<float>(d) + eps);
  if (lane == 0) rstd[i] = r;
#pragma unroll 4
  for (int64_t c = lane * kPack; c < d; c += kStride) {
    Pack p = load_pack(row + c);
    const Pack w = load_pack(weight + c);
#pragma unroll
    for (int k = 0; k < kPack; ++k) p.x[k] = p.x[k] * r * w.x[k];
    store_pack(y + i * d + c, p);
  }
}

// With g = dy * weight: dx += r g - (r^3 / D) (g . x) x;  dweight = sum over tokens of dy * x * r.
// A block takes a chunk of tokens. First each of its warps takes a token, for dx. Then each thread takes 8
// columns, for the chunk's share of dweight, over the tokens in order: dy and x are still cached.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    rms_norm_backward_kernel(int64_t n, int64_t d, const T* dy /*[N,D]*/, const T* x /*[N,D]*/,
                             const float* weight /*[D]*/, const float* rstd /*[N]*/, T* dx /*[N,D]*/,
                             float* partials /*[chunks,D]*/) {
  const int lane = threadIdx.x % kWarp;
  const TokenRange tokens = chunk_tokens(n, gridDim.x, blockIdx.x);
  for (int64_t i = tokens.begin + threadIdx.x / kWarp; i < tokens.end; i += kWarps) {
    const T* x_row = x + i * d;
    const T* dy_row = dy + i * d;
    float dot = 0;
#pragma unroll 2
    for (int64_t c = lane * kPack; c < d; c += kStride) {
      const Pack xs = load_pack(x_row + c), dys = load_pack(dy_row + c), w = load_pack(weight + c);
#pragma unroll
      for (int k = 0; k < kPack; ++k) dot += dys.x[k] * w.x[k] * xs.x[k];
    }
    const float r = rstd[i];
    const float projection = warp_sum(dot) * r * r * r / static_cast<float>(d);
#pragma unroll 2
    for (int64_t c = lane * kPack; c < d; c += kStride) {
      const Pack xs = load_pack(x_row + c), dys = load_pack(dy_row + c), w = load_pack(weight + c);
      Pack dxs = load_pack(dx + i * d + c);
#pragma unroll
      for (int k = 0; k < kPack; ++k) dxs.x[k] += dys.x[k] * r * w.x[k] - projection * xs.x[k];
      store_pack(dx + i * d + c, dxs);
    }
  }
  for (int64_t c = threadIdx.x * kPack; c < d; c += kThreads * kPack) {
    Pack sum = {};
#pragma unroll 4
    for (int64_t i = tokens.begin; i < tokens.end; ++i) {
      const Pack xs = load_pack(x + i * d + c), dys = load_pack(dy + i * d + c);
      const float r = rstd[i];
#pragma unroll
      for (int k = 0; k < kPack; ++k) sum.x[k] += dys.x[k] * r * xs.x[k];
    }
    store_pack(partials + blockIdx.x * d + c, sum);
  }
}

}  // namespace

void rms_norm_forward(Stream stream, const Tensor& x, const Tensor& weight, float eps, const Tensor& y,
                      const Tensor& rstd) {
  const int64_t n = x.rows();
  if (n == 0) return;
  with_activation_type(x.dtype, [&]<typename T>() {
    launch(rms_norm_forward_kernel<T>, dim3(narrow<int>(div_ceil(n, kWarps))), dim3(kThreads), 0,
           handle(stream), n, x.cols(), pointer<T>(x), pointer<float>(weight), eps, pointer<T>(y),
           pointer<float>(rstd));
  });
}

void rms_norm_backward(Stream stream, const Tensor& dy, const Tensor& x, const Tensor& weight,
                       const Tensor& rstd, const Tensor& dx, const Tensor& dweight, const Tensor& workspace) {
  const int64_t n = x.rows();
  const int64_t d = x.cols();
  if (n == 0) return;
  const int64_t chunks = reduction_chunks(n);
  float* partials = pointer<float>(workspace);
  with_activation_type(x.dtype, [&]<typename T>() {
    launch(rms_norm_backward_kernel<T>, dim3(narrow<int>(chunks)), dim3(kThreads), 0, handle(stream), n, d,
           pointer<T>(dy), pointer<T>(x), pointer<float>(weight), pointer<float>(rstd), pointer<T>(dx),
           partials);
  });
  const PartialSums sum = {workspace, d, 0, dweight};
  add_partial_sums(stream, n, {&sum, 1});
}

}  // namespace depthroute::cuda
