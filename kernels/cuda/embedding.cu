// Looks up rows of the embedding table, and sums their gradients.
#include <cmath>

#include "kernels/cuda/check.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vector.cuh"
#include "kernels/op_table.h"

namespace depthroute::cuda {
namespace {

// ---- forward: a warp copies a row. The host cannot see the tokens without waiting for the GPU, so a token
// outside the vocabulary is not an error here: its row becomes NaN, and so does the loss, which training and
// evaluation check.
constexpr int kForwardWarps = 8;

template <typename T>
__global__ void __launch_bounds__(kForwardWarps* kWarp)
    embedding_forward_kernel(int64_t n, int64_t d, int64_t vocab, const int32_t* tokens /*[N]*/,
                             const T* table /*[V,D]*/, T* out /*[N,D]*/) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kForwardWarps + threadIdx.x / kWarp;
  if (i >= n) return;
  const int64_t token = tokens[i];
  const bool known = token >= 0 && token < vocab;
  const T* from = table + (known ? token : 0) * d;
  T* to = out + i * d;
  Pack nan;
#pragma unroll
  for (int k = 0; k < kPack; ++k) nan.x[k] = NAN;
#pragma unroll 4
  for (int64_t c = threadIdx.x % kWarp * kPack; c < d; c += kWarp * kPack)
    store_raw(to + c, known ? load_raw(from + c) : pack_raw(nan, T{}));
}

// ---- backward: dtable[token] += dout of every position that holds the token, in the order of the positions.
// One block per position (and 1024 columns). If the same token occurs earlier, that position's block does the
// work. Otherwise the block searches the remaining tokens, 1024 at a time, and adds the rows it finds,
// several loads in flight. No sorting, no atomics, no scratch, at the price of at most N^2 comparisons:
// at N = 32768 these read 4 GiB from the L2 cache, under a millisecond on a GPU whose step takes hundreds.
// Frequent tokens, which have the longest sums, occur early, so their blocks start first.
constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarp;
constexpr int kTurns = 8;                 // tokens per thread in one look
constexpr int kLook = kThreads * kTurns;  // tokens the block looks at in one go
constexpr int kWords = kLook / kWarp;     // words of their bits

// Returns whether `token` is among the first `count` tokens, the same answer in every thread.
__device__ bool occurs_before(int64_t count, int32_t token, const int32_t* tokens) {
  for (int64_t base = 0; base < count; base += kLook) {
    bool found = false;
#pragma unroll
    for (int turn = 0; turn < kTurns; ++turn) {
      const int64_t j = base + turn * kThreads + threadIdx.x;
      found |= j < count && tokens[j] == token;
    }
    if (__syncthreads_or(found)) return true;
  }
  return false;
}

// Iterates over the set bits of a look, in order.
struct Matches {
  const unsigned* words;  // [kWords], shared
  int word = 0;
  unsigned bits = 0;

  __device__ explicit Matches(const unsigned* look) : words(look), bits(look[0]) {}
  __device__ int next() {  // -1: no more
    while (bits == 0) {
      if (++word >= kWords) return -1;
      bits = words[word];
    }
    const int bit = __ffs(static_cast<int>(bits)) - 1;
    bits &= bits - 1;
    return word * kWarp + bit;
  }
};

template <typename T>
__global__ void __launch_bounds__(kThreads)
    embedding_backward_kernel(int64_t n, int64_t d, int64_t vocab, const int32_t* tokens /*[N]*/,
                              const T* dout /*[N,D]*/, float* dtable /*[V,D]*/) {
  constexpr int kRows = 128 / sizeof(RawPack<T>);  // in flight
  __shared__ unsigned words[kWords];
  const int64_t position = blockIdx.x;
  const int32_t token = tokens[position];
  if (token < 0 || token >= vocab || occurs_before(position, token, tokens)) return;

  const int64_t column = (static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x) * kPack;
  const bool owns_columns = column < d;
  float* row = dtable + static_cast<int64_t>(token) * d + column;
  Pack total = {};
  if (owns_columns) total = load_pack(row);
  for (int64_t base = position; base < n; base += kLook) {
    bool found = false;
#pragma unroll
    for (int turn = 0; turn < kTurns; ++turn) {
      const int64_t j = base + turn * kThreads + threadIdx.x;
      const unsigned bits = __ballot_sync(kFullWarp, j < n && tokens[j] == token);
      if (threadIdx.x % kWarp == 0) words[turn * kWarps + threadIdx.x / kWarp] = bits;
      found |= bits != 0;
    }
    if (!__syncthreads_or(found)) continue;
    Matches matches(words);
    bool more = owns_columns;
    while (more) {
      int at[kRows];
      RawPack<T> rows[kRows];
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        at[r] = matches.next();
        if (at[r] >= 0) rows[r] = load_raw(dout + (base + at[r]) * d + column);
      }
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        if (at[r] < 0) continue;
        const Pack add = unpack(rows[r]);
#pragma unroll
        for (int k = 0; k < kPack; ++k) total.x[k] += add.x[k];
      }
      more = at[kRows - 1] >= 0;
    }
    __syncthreads();  // all have read the words before the next look overwrites them
  }
  if (owns_columns) store_pack(row, total);
}

}  // namespace

void embedding_forward(Stream stream, const Tensor& tokens, const Tensor& table, const Tensor& out) {
  const int64_t n = out.rows();
  if (n == 0) return;
  with_activation_type(out.dtype, [&]<typename T>() {
    launch(embedding_forward_kernel<T>, dim3(narrow<int>(div_ceil(n, kForwardWarps))),
           dim3(kForwardWarps * kWarp), 0, handle(stream), n, out.cols(), table.rows(),
           pointer<int32_t>(tokens), pointer<T>(table), pointer<T>(out));
  });
}

void embedding_backward(Stream stream, const Tensor& tokens, const Tensor& dout, const Tensor& dtable) {
  const int64_t n = dout.rows();
  const int64_t d = dout.cols();
  if (n == 0) return;
  with_activation_type(dout.dtype, [&]<typename T>() {
    launch(embedding_backward_kernel<T>, dim3(narrow<int>(n), narrow<int>(div_ceil(d, kThreads * kPack))),
           dim3(kThreads), 0, handle(stream), n, d, dtable.rows(), pointer<int32_t>(tokens), pointer<T>(dout),
           pointer<float>(dtable));
  });
}

}  // namespace depthroute::cuda
