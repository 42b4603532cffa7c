// What the op tests share: tensors (host_tensor.h), seeded random values, distances to float64 oracles,
// finite differences, and a check that a result does not depend on the number of threads.
#pragma once

#include <gtest/gtest.h>
#include <omp.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <span>
#include <type_traits>
#include <vector>

#include "tests/kernels/host_tensor.h"
#include "tests/tolerances.h"

namespace depthroute::test {

/// Normal values, mean + scale * N(0, 1); the same seed gives the same values.
inline F32 random_f32(Shape shape, uint64_t seed, double scale = 1.0, double mean = 0.0) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> normal(mean, scale);
  F32 result(shape);
  for (int64_t i = 0; i < result.size(); ++i) result[i] = static_cast<float>(normal(engine));
  return result;
}

/// The same values rounded to bfloat16.
inline BF16 to_bf16(const F32& x, Shape shape) {
  BF16 result(shape);
  std::copy(x.data(), x.data() + x.size(), result.data());
  return result;
}
inline BF16 random_bf16(Shape shape, uint64_t seed, double scale = 1.0, double mean = 0.0) {
  return to_bf16(random_f32(shape, seed, scale, mean), shape);
}

/// Calls body.operator()<Act>() with each type that activations may have on the tests' device: F32, on cuda
/// also BF16.
template <typename Body>
void for_each_activation_type(const Body& body) {
  body.template operator()<F32>();
  if (on_cuda()) body.template operator()<BF16>();
}
template <typename Act>
Act random_activations(Shape shape, uint64_t seed, double scale = 1.0, double mean = 0.0) {
  if constexpr (std::is_same_v<Act, BF16>) return random_bf16(shape, seed, scale, mean);
  if constexpr (std::is_same_v<Act, F32>) return random_f32(shape, seed, scale, mean);
}
/// Tolerance in relative L2 of activations that an op has written: `f32`, or one rounding to bf16.
template <typename Act>
constexpr double activation_tolerance(double f32) {
  return std::is_same_v<Act, BF16> ? tolerance::kBf16Output : f32;
}

/// Integers, low <= value < high.
inline I32 random_i32(Shape shape, uint64_t seed, int32_t low, int32_t high) {
  std::mt19937_64 engine(seed);
  std::uniform_int_distribution<int32_t> uniform(low, high - 1);
  I32 result(shape);
  for (int64_t i = 0; i < result.size(); ++i) result[i] = uniform(engine);
  return result;
}

/// A zeroed workspace of an op; never empty.
inline F32 workspace(int64_t floats) { return F32({std::max<int64_t>(floats, 1)}); }

/// |got - want| / |want| in the L2 norm (|got| where want is 0); infinite where a value is not finite.
template <typename A, typename B>
double relative_l2(std::span<const A> got, std::span<const B> want) {
  if (got.size() != want.size()) return std::numeric_limits<double>::infinity();
  double difference = 0, norm = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const double delta = static_cast<double>(got[i]) - static_cast<double>(want[i]);
    difference += delta * delta;
    norm += static_cast<double>(want[i]) * static_cast<double>(want[i]);
  }
  if (!std::isfinite(difference)) return std::numeric_limits<double>::infinity();
  return norm > 0 ? std::sqrt(difference / norm) : std::sqrt(difference);
}
inline double relative_l2(const F32& got, const std::vector<double>& want) {
  return relative_l2(got.span(), std::span<const double>(want));
}
inline double relative_l2(const BF16& got, const std::vector<double>& want) {
  return relative_l2(got.span(), std::span<const double>(want));
}
inline double relative_l2(const std::vector<double>& got, const std::vector<double>& want) {
  return relative_l2(std::span<const double>(got), std::span<const double>(want));
}

/// d loss / d x by central differences in float64. `loss` reads x through the reference it captured.
inline std::vector<double> finite_difference(std::vector<double>& x, const std::function<double()>& loss,
                                             double step = 1e-5) {
  std::vector<double> gradient(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    const double kept = x[i];
    x[i] = kept + step;
    const double up = loss();
    x[i] = kept - step;
    const double down = loss();
    x[i] = kept;
    gradient[i] = (up - down) / (2 * step);
  }
  return gradient;
}

/// Sum of a[i] * b[i] in float64: the scalar loss whose gradient by an op's output `a` is `b`.
inline double inner(const std::vector<double>& a, const std::vector<double>& b) {
  double total = 0;
  for (size_t i = 0; i < a.size(); ++i) total += a[i] * b[i];
  return total;
}

/// Expects the outputs that `run` computes and returns to be equal, bit for bit, with 1, 2, 3 and 5 threads
/// (on cuda: every time).
inline void expect_independent_of_threads(const std::function<std::vector<F32>()>& run) {
  const int before = omp_get_max_threads();
  omp_set_num_threads(1);
  const std::vector<F32> want = run();
  for (int threads : {2, 3, 5}) {
    omp_set_num_threads(threads);
    const std::vector<F32> got = run();
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < got.size(); ++i)
      EXPECT_TRUE(got[i] == want[i]) << "output " << i << " with " << threads << " threads";
  }
  omp_set_num_threads(before);
}

/// The norm of one tensor, computed as the optimizer computes that of many shards.
inline F32 global_norm(const Tensor& x) {
  F64 totals({1, 2}, 0.0), squares({1}), loss({1});
  F32 norm({1});
  ops::sum_of_squares(stream(), x, squares, workspace(ops::sum_of_squares_workspace(device())));
  totals[1] = squares[0];
  ops::combine_shard_totals(stream(), totals, 1, loss, norm);
  return norm;
}

}  // namespace depthroute::test
