// The unit that every kernel moves: a pack of 8 consecutive elements, one 16-byte access in bf16 and two in
// f32. Arithmetic is always float32. Pointers are 16-byte aligned and row lengths divisible by 8
// (ops::unsupported() rejects other models).
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "configs/base/check.h"
#include "kernels/tensor.h"

namespace depthroute::cuda {

using bf16 = __nv_bfloat16;

inline constexpr int kPack = 8;   // elements
inline constexpr int kWarp = 32;  // threads

/// A pack as float32.
struct Pack {
  float x[kPack];
};

/// A pack as it lies in memory: a bf16 one takes half the registers of a Pack.
template <typename T>
struct RawPack;
template <>
struct RawPack<float> {
  float4 low, high;
};
template <>
struct RawPack<bf16> {
  uint4 bits;
};

__device__ __forceinline__ RawPack<float> load_raw(const float* p) {
  const float4* q = reinterpret_cast<const float4*>(p);
  return {q[0], q[1]};
}
__device__ __forceinline__ RawPack<bf16> load_raw(const bf16* p) {
  return {*reinterpret_cast<const uint4*>(p)};
}

__device__ __forceinline__ Pack unpack(const RawPack<float>& raw) {
  return {{raw.low.x, raw.low.y, raw.low.z, raw.low.w, raw.high.x, raw.high.y, raw.high.z, raw.high.w}};
}
__device__ __forceinline__ Pack unpack(const RawPack<bf16>& raw) {
  // A bf16 is the upper half of the float32 of the same value.
  const uint32_t words[4] = {raw.bits.x, raw.bits.y, raw.bits.z, raw.bits.w};
  Pack pack;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    pack.x[2 * i] = __uint_as_float(words[i] << 16);
    pack.x[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
  }
  return pack;
}

__device__ __forceinline__ RawPack<float> pack_raw(const Pack& p, float) {
  return {{p.x[0], p.x[1], p.x[2], p.x[3]}, {p.x[4], p.x[5], p.x[6], p.x[7]}};
}
__device__ __forceinline__ uint32_t pair_bits(float low, float high) {  // rounded to nearest even
  const uint32_t a = __bfloat16_as_ushort(__float2bfloat16_rn(low));
  const uint32_t b = __bfloat16_as_ushort(__float2bfloat16_rn(high));
  return a | (b << 16);
}
__device__ __forceinline__ RawPack<bf16> pack_raw(const Pack& p, bf16) {
  return {{pair_bits(p.x[0], p.x[1]), pair_bits(p.x[2], p.x[3]), pair_bits(p.x[4], p.x[5]),
           pair_bits(p.x[6], p.x[7])}};
}

template <typename T>
__device__ __forceinline__ Pack load_pack(const T* p) {
  return unpack(load_raw(p));
}
__device__ __forceinline__ void store_raw(float* p, const RawPack<float>& raw) {
  reinterpret_cast<float4*>(p)[0] = raw.low;
  reinterpret_cast<float4*>(p)[1] = raw.high;
}
// In bf16, an assignment would become four 4-byte stores where the words have just been computed; __stwb is one
// store with the default cache policy. It writes to global memory only.
__device__ __forceinline__ void store_raw(bf16* p, const RawPack<bf16>& raw) {
  __stwb(reinterpret_cast<uint4*>(p), raw.bits);
}
template <typename T>
__device__ __forceinline__ void store_pack(T* p, const Pack& pack) {
  store_raw(p, pack_raw(pack, T{}));
}

/// Half a pack, for kernels that a whole one does not fit: half a head is only a multiple of 4, and a thread
/// of routing_backward_shared holds too many packs in registers.
inline constexpr int kQuad = 4;
struct Quad {
  float x[kQuad];
};
template <typename T>
struct RawQuad;
template <>
struct RawQuad<float> {
  float4 values;
};
template <>
struct RawQuad<bf16> {
  uint2 bits;
};
__device__ __forceinline__ RawQuad<float> load_raw_quad(const float* p) {
  return {*reinterpret_cast<const float4*>(p)};
}
__device__ __forceinline__ RawQuad<bf16> load_raw_quad(const bf16* p) {
  return {*reinterpret_cast<const uint2*>(p)};
}
__device__ __forceinline__ Quad unpack(const RawQuad<float>& raw) {
  return {{raw.values.x, raw.values.y, raw.values.z, raw.values.w}};
}
__device__ __forceinline__ Quad unpack(const RawQuad<bf16>& raw) {
  return {{__uint_as_float(raw.bits.x << 16), __uint_as_float(raw.bits.x & 0xffff0000u),
           __uint_as_float(raw.bits.y << 16), __uint_as_float(raw.bits.y & 0xffff0000u)}};
}
template <typename T>
__device__ __forceinline__ Quad load_quad(const T* p) {
  return unpack(load_raw_quad(p));
}
__device__ __forceinline__ void store_quad(float* p, const Quad& quad) {
  *reinterpret_cast<float4*>(p) = {quad.x[0], quad.x[1], quad.x[2], quad.x[3]};
}
__device__ __forceinline__ void store_quad(bf16* p, const Quad& quad) {  // as store_raw()
  __stwb(reinterpret_cast<uint2*>(p),
         uint2{pair_bits(quad.x[0], quad.x[1]), pair_bits(quad.x[2], quad.x[3])});
}

/// Converts one element to float32 and back.
__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(bf16 x) { return __bfloat162float(x); }
template <typename T>
__device__ __forceinline__ T from_float(float x);
template <>
__device__ __forceinline__ float from_float<float>(float x) {
  return x;
}
template <>
__device__ __forceinline__ bf16 from_float<bf16>(float x) {
  return __float2bfloat16_rn(x);
}

/// On the host: returns the typed pointer of a tensor whose dtype has been checked.
template <typename T>
T* pointer(const Tensor& tensor) {
  return static_cast<T*>(tensor.pointer);
}

/// Calls body.operator()<T>() with the C++ type for activations of `dtype`.
template <typename Body>
void with_activation_type(DType dtype, const Body& body) {
  DR_CHECK(dtype == DType::f32 || dtype == DType::bf16);
  if (dtype == DType::f32) {
    body.template operator()<float>();
  } else {
    body.template operator()<bf16>();
  }
}

}  // namespace depthroute::cuda
