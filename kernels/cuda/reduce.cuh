// Sums in a fixed order: within a warp by shuffles, over tokens in two stages. Stage one: the tokens are cut
// into at most kReductionChunks chunks (work_split.h), by their number alone; one block per chunk writes its
// partial sums as a row of the workspace. Stage two (add_partial_sums, reduce.cu): the rows are added.
#pragma once

#include <algorithm>
#include <cstdint>

#include "configs/base/check.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/vector.cuh"
#include "kernels/cuda/work_split.h"

namespace depthroute::cuda {

inline constexpr unsigned kFullWarp = 0xffffffffu;

/// Total of the warp's 32 values, in every lane.
__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
  for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) x += __shfl_xor_sync(kFullWarp, x, lanes);
  return x;
}
__device__ __forceinline__ double warp_sum(double x) {
#pragma unroll
  for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) x += __shfl_xor_sync(kFullWarp, x, lanes);
  return x;
}
__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
  for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) x = fmaxf(x, __shfl_xor_sync(kFullWarp, x, lanes));
  return x;
}

/// Lanes that differ in `kBit` exchange halves of the first 2 kHalf values, and so on down to one value. A
/// recursion, because nvcc unrolls a loop too late and keeps its values in local memory.
template <int kHalf, int kBit, int kCount>
__device__ __forceinline__ void exchange_halves(float (&value)[kCount], int lane) {
  if constexpr (kHalf > 0) {
    const bool upper = (lane & kBit) != 0;
#pragma unroll
    for (int i = 0; i < kHalf; ++i) {
      const float a = value[i], b = value[i + kHalf];
      value[i] = (upper ? b : a) + __shfl_xor_sync(kFullWarp, upper ? a : b, kBit);
    }
    exchange_halves<kHalf / 2, kBit * 2>(value, lane);
  }
}

/// Sums kCount values (a power of two, at most 32) over the warp: lane l gets the
/// total of value spread_index<kCount>(l). Takes about kCount shuffles; kCount calls
/// of warp_sum would take 5 kCount. After log2(kCount) exchanges each lane holds the
/// partial sum of one value; the rest is one plain sum. Overwrites `value`.
template <int kCount>
__device__ __forceinline__ float warp_sum_spread(float (&value)[kCount]) {
  static_assert(kCount >= 1 && kCount <= kWarp && (kCount & (kCount - 1)) == 0);
  exchange_halves<kCount / 2, 1>(value, static_cast<int>(threadIdx.x) % kWarp);
  float mine = value[0];
#pragma unroll
  for (int bit = kCount; bit < kWarp; bit *= 2) mine += __shfl_xor_sync(kFullWarp, mine, bit);
  return mine;
}

/// The value whose total warp_sum_spread leaves in a lane: the low log2(kCount) bits in reverse. It is its
/// own inverse, and so also gives the lane, of 0 ... kCount - 1, that holds a value's total.
template <int kCount>
__device__ __forceinline__ int spread_index(int lane_or_value) {
  int index = 0;
#pragma unroll
  for (int half = kCount / 2, bit = 1; half >= 1; half /= 2, bit *= 2)
    if ((lane_or_value & half) != 0) index |= bit;
  return index;
}

/// Sums of kGroups x kEach values over the warp, with fewer instructions than warp_sum_spread: the i-th group of a lane
/// is number i ^ own_group<kGroups>(lane), so that in the first exchanges, of groups, each lane keeps its first half and
/// nothing need be selected. The order of additions does not depend on kGroups.
template <int kGroups>
__device__ __forceinline__ int own_group(int lane) {
  return lane / (kWarp / kGroups);
}
template <int kGroups, int kEach>
__device__ __forceinline__ float warp_sum_groups(float (&value)[kGroups * kEach]) {
  static_assert((kGroups == 1 || kGroups == 2 || kGroups == 4) &&
                (kEach == 1 || kEach == 2 || kEach == 4 || kEach == 8));
  constexpr int kMost = 4;
#pragma unroll
  for (int i = 0; i < kGroups / 4 * 2 * kEach; ++i)
    value[i] += __shfl_xor_sync(kFullWarp, value[i + 2 * kEach], kWarp / 2);
  float first[kEach];
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    if constexpr (kGroups == 4) {
      first[i] = value[i] + __shfl_xor_sync(kFullWarp, value[i + kEach], kWarp / 4);
    } else {
      first[i] = value[i] + __shfl_xor_sync(kFullWarp, value[kGroups == 2 ? i + kEach : i], kWarp / 2);
      first[i] += __shfl_xor_sync(kFullWarp, first[i], kWarp / 4);
    }
  }
  exchange_halves<kEach / 2, 1>(first, static_cast<int>(threadIdx.x) % kWarp);
  float mine = first[0];
#pragma unroll
  for (int bit = kEach; bit < kWarp / kMost; bit *= 2) mine += __shfl_xor_sync(kFullWarp, mine, bit);
  return mine;
}
/// The value whose total warp_sum_groups leaves in a lane, counted in the order of numbers; -1 in lanes that hold what
/// an earlier lane holds, too.
template <int kGroups, int kEach>
__device__ __forceinline__ int group_index(int lane) {
  if (lane % (kWarp / kGroups) >= kEach) return -1;
  return own_group<kGroups>(lane) * kEach + spread_index<kEach>(lane);
}

/// Sums kCount values over the warp, all totals in every lane. Takes about 2 kCount shuffles.
template <int kCount>
__device__ __forceinline__ void warp_sum_each(float (&value)[kCount]) {
  const float mine = warp_sum_spread(value);
#pragma unroll
  for (int i = 0; i < kCount; ++i) value[i] = __shfl_sync(kFullWarp, mine, spread_index<kCount>(i));
}

/// Returns the total over the block, whose size is a multiple of 32, in thread 0. At most once per kernel and
/// type: the warps' sums lie in static shared memory.
template <typename T>
__device__ __forceinline__ T block_sum(T x) {
  __shared__ T sums[kWarp];
  x = warp_sum(x);
  if (threadIdx.x % kWarp == 0) sums[threadIdx.x / kWarp] = x;
  __syncthreads();
  if (threadIdx.x >= kWarp) return x;
  return warp_sum(threadIdx.x < blockDim.x / kWarp ? sums[threadIdx.x] : T{0});
}

/// Tokens [begin, end) of a chunk; chunks differ by at most one token. For use in kernels.
struct TokenRange {
  int64_t begin, end;
};
__device__ __forceinline__ TokenRange chunk_tokens(int64_t n, int64_t chunks, int64_t chunk) {
  return {n * chunk / chunks, n * (chunk + 1) / chunks};
}

}  // namespace depthroute::cuda
