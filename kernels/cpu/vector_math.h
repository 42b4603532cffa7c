// Arithmetic that the CPU kernels share, written so that the compiler vectorises it without -ffast-math
// (infinities and NaN keep their meaning: masks are -inf, and a NaN must reach the loss). The source, not the
// machine's vector width, fixes the order of every sum.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

namespace depthroute::cpu {

/// Returns e^x, branch-free, for use inside `#pragma omp simd` loops (g++ alone does not vectorise std::exp).
/// Within 2 ulp of the true value; results below the smallest normal float are 0, exp(-inf) = 0, exp(inf) =
/// inf, NaN stays NaN, exp(0) = 1 exactly. x = n ln2 + r, |r| <= ln2 / 2; e^r by the degree-7 polynomial of
/// the Cephes library (expf); 2^n in two factors so that n = 128 does not overflow on the way.
inline float fast_exp(float x) {
  constexpr float kLowest = -87.336544f;  // ln of the smallest normal float
  constexpr float kHighest = 89.0f;       // gives inf
  constexpr float kLog2E = 1.44269504088896341f;
  // Cody-Waite: the two add up to ln 2, and the first is exact when multiplied by a small integer.
  constexpr float kLn2High = 0.693359375f;
  constexpr float kLn2Low = -2.12194440e-4f;
  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits.
  constexpr float kRounder = 12582912.0f;
  // Comparisons are false for NaN, which passes through.
  float z = x < kLowest ? kLowest : x;
  z = z > kHighest ? kHighest : z;
  const float shifted = z * kLog2E + kRounder;
  const float n = shifted - kRounder;
  const int32_t exponent = std::bit_cast<int32_t>(shifted) - std::bit_cast<int32_t>(kRounder);
  const float r = (z - n * kLn2High) - n * kLn2Low;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  const int32_t half = exponent >> 1;
  const float scale = std::bit_cast<float>(static_cast<uint32_t>(half + 127) << 23);
  const float rest = std::bit_cast<float>(static_cast<uint32_t>(exponent - half + 127) << 23);
  const float result = p * scale * rest;
  return x < kLowest ? 0.0f : result;
}

/// 1 / (1 + e^-x).
inline float fast_sigmoid(float x) { return 1.0f / (1.0f + fast_exp(-x)); }

/// Eight floats; the compiler splits or joins them for the machine at hand.
using F8 __attribute__((vector_size(32))) = float;

inline F8 load8(const float* from) {
  F8 value;
  std::memcpy(&value, from, sizeof value);  // any alignment
  return value;
}

/// Returns the sum of the eight lanes, added pairwise.
inline float sum_lanes(const F8& s) {
  return ((s[0] + s[4]) + (s[1] + s[5])) + ((s[2] + s[6]) + (s[3] + s[7]));
}

/// Returns the sum of a[i] * b[i] in float32: 32 interleaved partial sums, added pairwise.
inline float dot(int64_t n, const float* a, const float* b) {
  F8 s0 = {}, s1 = {}, s2 = {}, s3 = {};
  int64_t i = 0;
  for (; i + 32 <= n; i += 32) {
    s0 += load8(a + i) * load8(b + i);
    s1 += load8(a + i + 8) * load8(b + i + 8);
    s2 += load8(a + i + 16) * load8(b + i + 16);
    s3 += load8(a + i + 24) * load8(b + i + 24);
  }
  for (; i + 8 <= n; i += 8) s0 += load8(a + i) * load8(b + i);
  float total = sum_lanes((s0 + s1) + (s2 + s3));
  for (; i < n; ++i) total += a[i] * b[i];
  return total;
}

/// Returns the sum of x[i]^2, as dot(n, x, x).
inline float sum_squares(int64_t n, const float* x) { return dot(n, x, x); }

/// Returns 1 / sqrt(mean(x^2) + eps).
inline float inverse_rms(int64_t n, const float* x, float eps) {
  return 1.0f / std::sqrt(sum_squares(n, x) / static_cast<float>(n) + eps);
}

/// Returns the sum of a[i] * b[i] * c[i], in the order of dot().
inline float triple_dot(int64_t n, const float* a, const float* b, const float* c) {
  F8 s0 = {}, s1 = {}, s2 = {}, s3 = {};
  int64_t i = 0;
  for (; i + 32 <= n; i += 32) {
    s0 += load8(a + i) * load8(b + i) * load8(c + i);
    s1 += load8(a + i + 8) * load8(b + i + 8) * load8(c + i + 8);
    s2 += load8(a + i + 16) * load8(b + i + 16) * load8(c + i + 16);
    s3 += load8(a + i + 24) * load8(b + i + 24) * load8(c + i + 24);
  }
  for (; i + 8 <= n; i += 8) s0 += load8(a + i) * load8(b + i) * load8(c + i);
  float total = sum_lanes((s0 + s1) + (s2 + s3));
  for (; i < n; ++i) total += a[i] * b[i] * c[i];
  return total;
}

/// Returns the largest of n >= 1 values. Ignores NaN (they show up in the sum of exponentials).
inline float max_value(int64_t n, const float* x) {
  constexpr float kNone = -std::numeric_limits<float>::infinity();
  const F8 none = {kNone, kNone, kNone, kNone, kNone, kNone, kNone, kNone};
  F8 m0 = none, m1 = none, m2 = none, m3 = none;
  int64_t i = 0;
  for (; i + 32 <= n; i += 32) {
    const F8 v0 = load8(x + i), v1 = load8(x + i + 8), v2 = load8(x + i + 16), v3 = load8(x + i + 24);
    m0 = v0 > m0 ? v0 : m0;
    m1 = v1 > m1 ? v1 : m1;
    m2 = v2 > m2 ? v2 : m2;
    m3 = v3 > m3 ? v3 : m3;
  }
  m0 = m1 > m0 ? m1 : m0;
  m2 = m3 > m2 ? m3 : m2;
  m0 = m2 > m0 ? m2 : m0;
  float result = kNone;
  for (int j = 0; j < 8; ++j) result = m0[j] > result ? m0[j] : result;
  for (; i < n; ++i) result = x[i] > result ? x[i] : result;
  return result;
}

}  // namespace depthroute::cpu
