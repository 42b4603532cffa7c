// Softmax cross-entropy of rows of logits. One block per row. A row (300 KB in bf16 at 151936 classes) does not
// fit into a multiprocessor, so it is read twice: once for its maximum and the sum of exponentials, which every
// thread keeps for the columns it has seen, and once for the gradient. The second pass starts where the first
// one ended, at the end: that part may still be in the L2 cache.
// Sums: float32 over at most 8 values, then over a thread's packs (a few dozen); float64 over the block.
#include <cmath>
#include <type_traits>

#include "kernels/cuda/cross_entropy.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/reduce.cuh"

namespace depthroute::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / kWarp;
constexpr int kBlocks = 2048 / kThreads;  // per multiprocessor: all the threads it has room for

/// What the logits of targets are computed from, in bf16; in float32 they are read.
template <typename T>
struct TargetLogits {
  const T* hidden;  // [count, d]
  const T* head;    // [vocab, d]
  int64_t d;
};

/// 8 logits of a row from `column` on; columns that do not exist are -infinity, whose exponential is 0.
template <typename T>
__device__ __forceinline__ Pack load_logits(const T* row, int64_t column, int64_t vocab) {
  Pack z = load_pack(row + column);
#pragma unroll
  for (int i = 0; i < kPack; ++i)
    if (column + i >= vocab) z.x[i] = -INFINITY;
  return z;
}

/// The row's logit of its target in float32. Logits in bf16 have lost it, so each warp computes the product of
/// hidden state and class again, all with the same bits: 4 KB at D = 1024, beside the 900 KB that the row moves.
template <typename T>
__device__ __forceinline__ float logit_of_target(const TargetLogits<T>& from, int64_t row, int32_t target) {
  const T* const hidden = from.hidden + row * from.d;
  const T* const head = from.head + static_cast<int64_t>(target) * from.d;
  float sum = 0;
#pragma unroll 4
  for (int64_t c = threadIdx.x % kWarp * kPack; c < from.d; c += kWarp * kPack) {
    const Pack x = load_pack(hidden + c), w = load_pack(head + c);
#pragma unroll
    for (int i = 0; i < kPack; ++i) sum += x.x[i] * w.x[i];
  }
  return warp_sum(sum);
}

/// sum = sum of e^(z - highest) over the values seen.
struct OnlineSum {
  float highest = -INFINITY, sum = 0;

  __device__ __forceinline__ void add(const Pack& z) {
    float top = highest;
#pragma unroll
    for (int i = 0; i < kPack; ++i) top = fmaxf(top, z.x[i]);
    float pack_sum = 0;
#pragma unroll
    for (int i = 0; i < kPack; ++i) pack_sum += expf(z.x[i] - top);
    sum = sum * expf(highest - top) + pack_sum;
    highest = top;
  }
};

/// The block's total and maximum, in every thread.
__device__ __forceinline__ double block_sum(double x, double (&scratch)[kWarps]) {
  x = warp_sum(x);
  __syncthreads();  // scratch may still be read
  if (threadIdx.x % kWarp == 0) scratch[threadIdx.x / kWarp] = x;
  __syncthreads();
  double total = 0;
  for (int warp = 0; warp < kWarps; ++warp) total += scratch[warp];
  return total;
}
__device__ __forceinline__ float block_max(float x, float (&scratch)[kWarps]) {
  x = warp_max(x);
  __syncthreads();  // scratch may still be read
  if (threadIdx.x % kWarp == 0) scratch[threadIdx.x / kWarp] = x;
  __syncthreads();
  float highest = scratch[0];
  for (int warp = 1; warp < kWarps; ++warp) highest = fmaxf(highest, scratch[warp]);
  return highest;
}
/// The block's sum of e^(z - highest). A thread that saw no column has sum 0, and 0 * e^-inf is 0.
__device__ __forceinline__ double block_total(const OnlineSum& mine, float highest,
                                              double (&scratch)[kWarps]) {
  return block_sum(static_cast<double>(mine.sum) * static_cast<double>(expf(mine.highest - highest)),
                   scratch);
}

// The gradient is written over the logits. No thread overwrites what another one has yet to read: the first pass
// of all threads, and float32's reading of the target's logit, lie before the barriers of block_max(); in the
// second pass a pack is read and written by one thread.
template <typename T>
__global__ void __launch_bounds__(kThreads, kBlocks)
    rows_kernel(LogitRows rows, T* logits /*[count, stride]*/, TargetLogits<T> exact,
                const int32_t* targets /*[count]*/, float scale, float* nll /*[count]*/, bool gradient) {
  __shared__ float tops[kWarps];
  __shared__ double sums[kWarps];
  const int64_t row = blockIdx.x;
  T* const z = logits + row * rows.stride;
  const int32_t target = targets[row];
  const int64_t packs = (rows.vocab + kPack - 1) / kPack;
  if (target == -1) {
    if (threadIdx.x == 0) nll[row] = 0;
    if (gradient)
      for (int64_t i = threadIdx.x; i < packs; i += kThreads) store_pack(z + i * kPack, Pack{});
    return;
  }

  // A target that is not a class makes the whole gradient NaN.
  float at_target = NAN;
  if (target >= 0 && target < rows.vocab) {
    if constexpr (std::is_same_v<T, bf16>) {
      at_target = logit_of_target(exact, row, target);
    } else {
      at_target = z[target];
    }
  }
  const auto load = [&](int64_t column) {
    Pack pack = load_logits(z, column, rows.vocab);
    const int64_t at = target - column;
    if (at >= 0 && at < kPack) {
#pragma unroll
      for (int i = 0; i < kPack; ++i)
        if (i == at) pack.x[i] = at_target;
    }
    return pack;
  };

  OnlineSum mine;
  for (int64_t i = threadIdx.x; i < packs; i += kThreads) mine.add(load(i * kPack));
  const float highest = block_max(mine.highest, tops);
  const double total = block_total(mine, highest, sums);
  const double loss = log(total) - (static_cast<double>(at_target) - static_cast<double>(highest));
  if (threadIdx.x == 0) nll[row] = static_cast<float>(loss);
  if (!gradient) return;

  const float factor = isnan(at_target) ? NAN : static_cast<float>(static_cast<double>(scale) / total);
  for (int64_t last = packs - 1 - static_cast<int64_t>(threadIdx.x); last >= 0; last -= kThreads) {
    Pack g = load(last * kPack);
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      g.x[i] = expf(g.x[i] - highest) * factor;
      if (last * kPack + i == target) g.x[i] -= scale;
    }
    store_pack(z + last * kPack, g);
  }
}

/// The largest value seen and its column; the first one of equals.
struct Top {
  float value = -INFINITY;
  int index = 0x7fffffff;

  __device__ __forceinline__ void add(float other_value, int other_index) {
    if (other_value > value || (other_value == value && other_index < index)) {
      value = other_value;
      index = other_index;
    }
  }
};
__device__ __forceinline__ int block_argmax(Top top, float (&values)[kWarps], int (&indices)[kWarps]) {
#pragma unroll
  for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) {
    const float value = __shfl_xor_sync(kFullWarp, top.value, lanes);
    const int index = __shfl_xor_sync(kFullWarp, top.index, lanes);
    top.add(value, index);
  }
  __syncthreads();  // the arrays may still be read
  if (threadIdx.x % kWarp == 0) {
    values[threadIdx.x / kWarp] = top.value;
    indices[threadIdx.x / kWarp] = top.index;
  }
  __syncthreads();
  for (int warp = 0; warp < kWarps; ++warp) top.add(values[warp], indices[warp]);
  return top.index;
}

/// p (exp(delta) - 1 - delta) of one class, with p = e^(z - lse) and delta = log p' - log p = (z' - z) +
/// shift. The sum over classes is KL(p || p'), because p and p' both add up to 1, but every term is >= 0 and
/// of second order, so nothing cancels when p' is close to p.
__device__ __forceinline__ float divergence(float z, float lse, float other, float other_lse, float shift) {
  const float p = expf(z - lse);
  const float delta = (other - z) + shift;
  if (!(fabsf(delta) < 0.25f)) return expf(other - other_lse) - p - p * delta;
  // exp(delta) - 1 - delta to float precision.
  const float series =
      0.5f + delta * (1.0f / 6 + delta * (1.0f / 24 + delta * (1.0f / 120 + delta * (1.0f / 720))));
  return p * delta * delta * series;
}

__global__ void __launch_bounds__(kThreads)
    compare_kernel(LogitRows rows, const float* clean /*[count, stride]*/,
                   const float* other /*[count, stride]*/, const int32_t* targets /*[count]*/,
                   float* nll /*[count]*/, float* kl /*[count]*/, int32_t* flipped /*[count]*/,
                   int32_t* hit /*[count]*/) {
  __shared__ float tops[kWarps];
  __shared__ int indices[kWarps];
  __shared__ double sums[kWarps];
  const int64_t row = blockIdx.x;
  const float* const z = clean + row * rows.stride;
  const float* const z_other = other + row * rows.stride;
  const int32_t target = targets[row];
  const int64_t packs = (rows.vocab + kPack - 1) / kPack;
  if (target == -1) {
    if (threadIdx.x == 0) {
      nll[row] = kl[row] = 0;
      flipped[row] = hit[row] = 0;
    }
    return;
  }

  OnlineSum sum, other_sum;
  Top top, other_top;
  for (int64_t i = threadIdx.x; i < packs; i += kThreads) {
    const Pack a = load_logits(z, i * kPack, rows.vocab), b = load_logits(z_other, i * kPack, rows.vocab);
    sum.add(a);
    other_sum.add(b);
#pragma unroll
    for (int e = 0; e < kPack; ++e) {
      top.add(a.x[e], static_cast<int>(i) * kPack + e);
      other_top.add(b.x[e], static_cast<int>(i) * kPack + e);
    }
  }
  const float highest = block_max(sum.highest, tops), other_highest = block_max(other_sum.highest, tops);
  const double lse = static_cast<double>(highest) + log(block_total(sum, highest, sums));
  const double other_lse =
      static_cast<double>(other_highest) + log(block_total(other_sum, other_highest, sums));
  const int choice = block_argmax(top, tops, indices);
  const int other_choice = block_argmax(other_top, tops, indices);

  const float shift = static_cast<float>(lse - other_lse);
  float terms = 0;
  for (int64_t last = packs - 1 - static_cast<int64_t>(threadIdx.x); last >= 0; last -= kThreads) {
    const Pack a = load_logits(z, last * kPack, rows.vocab),
               b = load_logits(z_other, last * kPack, rows.vocab);
    float pack_terms = 0;
#pragma unroll
    for (int e = 0; e < kPack; ++e)
      if (last * kPack + e < rows.vocab)
        pack_terms +=
            divergence(a.x[e], static_cast<float>(lse), b.x[e], static_cast<float>(other_lse), shift);
    terms += pack_terms;
  }
  const double total = block_sum(static_cast<double>(terms), sums);
  if (threadIdx.x != 0) return;
  const bool exists = target >= 0 && target < rows.vocab;
  nll[row] = static_cast<float>(other_lse - static_cast<double>(exists ? z_other[target] : NAN));
  kl[row] = total < 0 ? 0.0f : static_cast<float>(total);  // keeps NaN
  flipped[row] = choice != other_choice ? 1 : 0;
  hit[row] = other_choice == target ? 1 : 0;
}

}  // namespace

void cross_entropy_rows(cudaStream_t stream, const LogitRows& rows, DType type, void* logits,
                        const Tensor& hidden, const Tensor& head, const int32_t* targets, float scale,
                        float* nll, bool gradient) {
  with_activation_type(type, [&]<typename T>() {
    TargetLogits<T> exact{};
    if (type == DType::bf16) {
      DR_CHECK(hidden.dtype == type && head.dtype == type);
      exact = {pointer<T>(hidden), pointer<T>(head), hidden.cols()};
    }
    launch(rows_kernel<T>, dim3(narrow<unsigned>(rows.count)), dim3(kThreads), 0, stream, rows,
           static_cast<T*>(logits), exact, targets, scale, nll, gradient);
  });
}

void cross_entropy_compare_rows(cudaStream_t stream, const LogitRows& rows, const float* clean,
                                const float* other, const int32_t* targets, float* nll, float* kl,
                                int32_t* flipped, int32_t* hit) {
  launch(compare_kernel, dim3(narrow<unsigned>(rows.count)), dim3(kThreads), 0, stream, rows, clean, other,
         targets, nll, kl, flipped, hit);
}

}  // namespace depthroute::cuda
