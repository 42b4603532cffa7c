// Small kernels for the emulator's own tests. All pointers are device memory.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <string>

namespace depthroute::cuda::samples {

/// What is wrong with normalize_rows. planted_faults takes these names in snake_case.
enum class Fault {
  kNone,
  /// A partial sum is overwritten while other threads still read it: the barrier after the reads is missing.
  kOverwrittenTooEarly,
  kMissingBarrier,      // warps read the partial sums before all are written
  kGlobalOutOfBounds,   // reads four elements past the last row
  kStaticOutOfBounds,   // writes one partial sum past the static array
  kDynamicOutOfBounds,  // reads one element past the dynamic array
  kMisaligned,          // reads a float4 with 4-byte alignment
};

/// y[row, c] = x[row, c] / sum over c of x[row, c]. x, y: [rows, cols];
/// cols a multiple of 4. One block of 128 threads per row: vector loads,
/// dynamic shared memory, static shared memory, warp shuffles and barriers.
void normalize_rows(Fault fault, const float* x, float* y, int rows, int cols, cudaStream_t stream);

/// x[i] = x[i] * factor + addend, without a barrier; x: [n] bfloat16, rounded to nearest even.
void scale_bf16(void* x, int64_t n, float factor, float addend, int threads, cudaStream_t stream);

// The rest is in sample_collectives.cu. Results are [threads] unless stated otherwise.

/// Every shuffle of `value(thread)` = 1000 * thread + 7 as T (int, unsigned, int64_t, float, double), in one
/// warp. out: [4, 32], one row each for __shfl_sync, _up, _down and _xor with `operand` and `width`.
template <typename T>
void shuffles(T* out, int operand, int width, cudaStream_t stream);

/// One warp, whose halves have masks of their own: sums over each half by __shfl_xor_sync. out: [32].
void half_warp_sums(int* out, cudaStream_t stream);

/// One warp, with a predicate that is true for the lanes in `set`. ballot, any, all: [32].
void votes(uint32_t set, unsigned* ballot, int* any, int* all, cudaStream_t stream);

/// `threads` threads, of which every third ends early; the others meet in __syncthreads_count/_or/_and of
/// "thread < limit". out: [3, threads], -1 for threads that ended.
void counting_barriers(int* out, int threads, int limit, cudaStream_t stream);

/// out[((bz * gy + by) * gx + bx) * threads + rank] = threadIdx and blockIdx packed into one number.
void indices(uint64_t* out, dim3 grid, dim3 block, cudaStream_t stream);

/// Sums in float, double, int and unsigned, [1] each, by an atomicAdd of every thread of `blocks` x 96.
void atomic_sums(float* f, double* d, int* i, unsigned* u, int blocks, cudaStream_t stream);

/// Copies 16 bytes per thread with __ldg, __ldcs, __stcs and __stwb, in one piece or two.
void cached_copies(const void* from, void* to, int threads, cudaStream_t stream);

/// Counts how many of `floats` elements of dynamic shared memory are NaN when a block starts. out: [blocks].
void count_nans_in_dynamic_shared(int* out, int blocks, int floats, cudaStream_t stream);

/// Launches an empty kernel of any shape.
void nothing(dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream);

/// Invalid kernels: each is reported and aborts.
enum class Misuse {
  kDivergentBarrier,    // half a warp at a barrier, the other half in a shuffle
  kMixedBarriers,       // __syncthreads meets __syncthreads_or
  kLaneEnded,           // a full-mask shuffle of which one lane has ended
  kLaneEndsLater,       // the same, the lane still runs when the others arrive
  kLaneMissing,         // a full-mask shuffle in a warp of 16 threads
  kMaskWithoutSelf,     // the calling lane is not in its mask
  kWidthNotPowerOfTwo,  // shuffle width 12
  kMixedCollectives,    // __shfl_xor_sync meets __ballot_sync
  kTrap,
};
void misuse(Misuse kind, cudaStream_t stream);

/// __syncthreads() from host code.
void barrier_on_the_host();

}  // namespace depthroute::cuda::samples
