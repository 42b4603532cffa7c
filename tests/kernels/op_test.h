// What the op tests share: host tensors with guard zones around them, seeded random values, distances to
// float64 oracles, finite differences, and a check that a result does not depend on the number of threads.
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
#include <vector>

#include "kernels/ops.h"
#include "kernels/tensor.h"
#include "tests/tolerances.h"

namespace depthroute::test {

inline constexpr Stream kCpu{Device::cpu, nullptr};

/// Host memory of one tensor, with guard zones before and after that the destructor checks: an op that writes
/// outside its output fails the test it runs in. Starts as NaN (or -99 for integers), so that an output the
/// op forgot to write shows up.
template <typename T>
class HostTensor {
 public:
  explicit HostTensor(Shape shape, T value = unwritten())
      : shape_(shape), storage_(shape.numel() + 2 * kGuard, guard()) {
    fill(value);
  }
  HostTensor(const HostTensor&) = default;
  HostTensor& operator=(const HostTensor&) = default;
  ~HostTensor() {
    for (int64_t i = 0; i < kGuard; ++i) {
      EXPECT_EQ(storage_[i], guard()) << "written " << kGuard - i << " elements before a tensor";
      EXPECT_EQ(storage_[kGuard + size() + i], guard()) << "written " << i << " elements after a tensor";
    }
  }

  static constexpr T unwritten() {
    return std::numeric_limits<T>::has_quiet_NaN ? std::numeric_limits<T>::quiet_NaN() : T(-99);
  }

  int64_t size() const { return shape_.numel(); }
  T* data() { return storage_.data() + kGuard; }
  const T* data() const { return storage_.data() + kGuard; }
  T& operator[](int64_t i) { return data()[i]; }
  const T& operator[](int64_t i) const { return data()[i]; }
  std::span<const T> span() const { return {data(), static_cast<size_t>(size())}; }
  std::vector<T> values() const { return {data(), data() + size()}; }
  std::vector<double> doubles() const { return {data(), data() + size()}; }
  Tensor tensor() const { return host_tensor(const_cast<T*>(data()), shape_); }
  operator Tensor() const { return tensor(); }
  void fill(T value) { std::fill(data(), data() + size(), value); }
  bool operator==(const HostTensor& other) const {  // bit for bit
    return shape_ == other.shape_ && std::memcmp(data(), other.data(), size() * sizeof(T)) == 0;
  }

 private:
  static constexpr int64_t kGuard = 19;  // odd on purpose: no op may count on alignment
  static constexpr T guard() { return T(-123456); }
  Shape shape_;
  std::vector<T> storage_;
};
using F32 = HostTensor<float>;
using F64 = HostTensor<double>;
using I32 = HostTensor<int32_t>;

/// Normal values mean + scale * N(0, 1), the same for the same seed.
inline F32 random_f32(Shape shape, uint64_t seed, double scale = 1.0, double mean = 0.0) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> normal(mean, scale);
  F32 result(shape);
  for (int64_t i = 0; i < result.size(); ++i) result[i] = static_cast<float>(normal(engine));
  return result;
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

/// `run` makes its outputs anew and returns them; they must be equal bit for bit with 1, 2, 3 and 5 threads.
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

}  // namespace depthroute::test
