// For kernels that touch every element of an array once: each thread takes a pack of 8 consecutive elements
// at a time, grid-strided. Arrays may have any length and alignment: an incomplete last pack, and all packs
// if an address is not a multiple of 16 bytes, are accessed element by element. Which thread gets which
// element never depends on that.
#pragma once

#include <cstdint>

#include "configs/base/check.h"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vector.cuh"
#include "kernels/cuda/work_split.h"

namespace depthroute::cuda {

inline constexpr int kElementwiseThreads = 256;
static_assert(kElementsPerBlock == kPack * kElementwiseThreads);

/// Arrays of `count` elements each; `aligned` if all of them are. Passed to kernels by value.
struct Elements {
  int64_t count;
  bool aligned;
};
template <typename... T>
Elements elements(int64_t count, const T*... arrays) {
  return {count, ((reinterpret_cast<uintptr_t>(arrays) % 16 == 0) && ...)};
}

/// for (int64_t i = first_element(); i < count; i += element_stride()) ... elements [i, i + 8)
__device__ __forceinline__ int64_t first_element() {
  return (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * kPack;
}
__device__ __forceinline__ int64_t element_stride() {
  return static_cast<int64_t>(gridDim.x) * blockDim.x * kPack;
}

/// x[i, i + 8), 0 past the end.
template <typename T>
__device__ __forceinline__ Pack load_elements(const T* x, int64_t i, const Elements& all) {
  if (all.aligned && i + kPack <= all.count) return load_pack(x + i);
  Pack pack;
#pragma unroll
  for (int k = 0; k < kPack; ++k) pack.x[k] = i + k < all.count ? to_float(x[i + k]) : 0.0f;
  return pack;
}

template <typename T>
__device__ __forceinline__ void store_elements(T* x, int64_t i, const Elements& all, const Pack& pack) {
  if (all.aligned && i + kPack <= all.count) {
    store_pack(x + i, pack);
    return;
  }
#pragma unroll
  for (int k = 0; k < kPack; ++k)
    if (i + k < all.count) x[i + k] = from_float<T>(pack.x[k]);
}

}  // namespace depthroute::cuda
