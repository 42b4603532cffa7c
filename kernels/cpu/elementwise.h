// What loops over every element of a tensor share: when they are worth threads, and sums in a fixed order.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

namespace depthroute::cpu {

/// Below this many elements, starting threads costs more than it saves.
inline constexpr int64_t kMinParallelElements = 1 << 14;

// sum_of() cuts a tensor into at most kSumChunks chunks, by its number of elements alone.
inline constexpr int64_t kSumChunks = 256;
inline constexpr int64_t kMinSumChunk = 4096;

/// Sum of f(x) over one chunk, in 16 interleaved float64 sums, so that the loop vectorises in a fixed order.
template <typename F>
double sum_of_chunk(int64_t n, const float* x, const F& f) {
  constexpr int64_t kLanes = 16;
  std::array<double, kLanes> lanes{};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
#pragma omp simd
    for (int64_t lane = 0; lane < kLanes; ++lane) lanes[lane] += f(static_cast<double>(x[i + lane]));
  }
  double total = 0;
  for (double lane : lanes) total += lane;
  for (; i < n; ++i) total += f(static_cast<double>(x[i]));
  return total;
}

/// Sum of f(x) over n elements in float64. The order does not depend on the number of threads.
template <typename F>
double sum_of(int64_t n, const float* x, const F& f) {
  const int64_t chunks = std::clamp<int64_t>(n / kMinSumChunk, 1, kSumChunks);
  std::array<double, kSumChunks> partial;
#pragma omp parallel for schedule(static) if (n > kMinParallelElements)
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const int64_t begin = n * chunk / chunks;
    const int64_t end = n * (chunk + 1) / chunks;
    partial[chunk] = sum_of_chunk(end - begin, x + begin, f);
  }
  double total = 0;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) total += partial[chunk];
  return total;
}

}  // namespace depthroute::cpu
