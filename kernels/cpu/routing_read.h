// What the reads of depth routing share: a source's statistics and the softmax over depth.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cpu/routing_math.h"

namespace depthroute::cpu {

// Columns summed in float32 before the sum goes on in float64, so that the error does not grow with D.
inline constexpr int64_t kSegment = 2048;

struct Statistics {
  float inv_rms, dot;
};

inline float inverse_rms(double squares, int64_t d, float eps) {
  return static_cast<float>(1.0 / std::sqrt(squares / static_cast<double>(d) + eps));
}

/// Returns the inverse RMS of a source's row and its product with u = query * key_norm. Prefetches `next`,
/// the row that is read next.
inline Statistics statistics(const RoutingArguments& args, const float* row, const float* next, int64_t d,
                             float eps) {
  double squares = 0, products = 0;
  for (int64_t begin = 0; begin < d; begin += kSegment) {
    Block<4> square{}, product{};
    for_columns<4>(begin, std::min(d, begin + kSegment), [&]<typename T>(int64_t i) {
      prefetch<T>(next + i);
      const T v = load<T>(row + i);
      const T u = load<T>(args.query + i) * load<T>(args.key_norm + i);
      accumulate(square, T(v * v));
      accumulate(product, T(v * u));
    });
    squares += total(square);
    products += total(product);
  }
  return {inverse_rms(squares, d, eps), static_cast<float>(products)};
}

/// Turns n logits into weights, in place; -inf gives exactly 0, a single finite logit exactly 1. Returns their
/// log-sum-exp. If all are -inf, so is that, and the weights are 0.
inline float softmax(int n, float* logits) {
  float largest = logits[0];
  for (int j = 1; j < n; ++j) largest = logits[j] > largest ? logits[j] : largest;
  if (std::all_of(logits, logits + n, [](float x) { return x == -std::numeric_limits<float>::infinity(); })) {
    std::fill_n(logits, n, 0.0f);
    return largest;
  }
  float total = 0;
  for (int j = 0; j < n; ++j) {
    logits[j] = fast_exp(logits[j] - largest);
    total += logits[j];
  }
  for (int j = 0; j < n; ++j) logits[j] /= total;
  return largest + std::log(total);
}

}  // namespace depthroute::cpu
