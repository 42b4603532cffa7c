#include <bit>

#include "kernels/cpu/reduce.h"
#include "kernels/cpu/vector_math.h"
#include "tests/kernels/op_test.h"

namespace depthroute {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// Every 997th float of the finite range, both signs, in a vectorised loop as the kernels use it.
TEST(FastExp, IsWithinTwoUlpOverTheWholeRange) {
  std::vector<float> x;
  for (uint32_t bits = 0; bits < std::bit_cast<uint32_t>(88.7f); bits += 997) {
    x.push_back(std::bit_cast<float>(bits));
    if (x.back() < 87.3f) x.push_back(-x.back());
  }
  std::vector<float> y(x.size());
#pragma omp simd
  for (size_t i = 0; i < x.size(); ++i) y[i] = cpu::fast_exp(x[i]);
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double want = std::exp(static_cast<double>(x[i]));
    const float nearest = static_cast<float>(want);
    const double ulp = static_cast<double>(std::nextafter(nearest, kInfinity)) - static_cast<double>(nearest);
    worst = std::max(worst, std::abs(static_cast<double>(y[i]) - want) / ulp);
  }
  EXPECT_GT(x.size(), 1'000'000u);
  EXPECT_LE(worst, 2.0);
}

TEST(FastExp, KeepsTheMeaningOfSpecialValues) {
  const std::vector<float> x = {-kInfinity, kInfinity, kNaN,   -kNaN, 0.0f,
                                -0.0f,      -88.0f,    -1e30f, 90.0f, 1e30f};
  const std::vector<float> want = {0.0f, kInfinity, kNaN, kNaN, 1.0f, 1.0f, 0.0f, 0.0f, kInfinity, kInfinity};
  std::vector<float> y(x.size());
#pragma omp simd
  for (size_t i = 0; i < x.size(); ++i) y[i] = cpu::fast_exp(x[i]);
  for (size_t i = 0; i < x.size(); ++i) {
    if (std::isnan(want[i]))
      EXPECT_TRUE(std::isnan(y[i])) << x[i];
    else
      EXPECT_EQ(y[i], want[i]) << x[i];
  }
}

TEST(Dot, MatchesFloat64AtEveryLength) {
  const test::F32 a = test::random_f32({200}, 1), b = test::random_f32({200}, 2),
                  c = test::random_f32({200}, 3);
  double two = 0, three = 0, magnitude = 0;
  for (int64_t n = 0; n < 200; ++n) {
    EXPECT_NEAR(cpu::dot(n, a.data(), b.data()), two, 1e-6 * (1 + magnitude)) << n;
    EXPECT_NEAR(cpu::triple_dot(n, a.data(), b.data(), c.data()), three, 1e-6 * (1 + magnitude)) << n;
    two += static_cast<double>(a[n]) * static_cast<double>(b[n]);
    three += static_cast<double>(a[n]) * static_cast<double>(b[n]) * static_cast<double>(c[n]);
    magnitude += std::abs(static_cast<double>(a[n]) * static_cast<double>(b[n]));
  }
}

TEST(MaxValue, FindsTheMaximumWhereverItIs) {
  for (int64_t n : {1, 7, 31, 32, 33, 64, 97}) {
    for (int64_t at = 0; at < n; ++at) {
      test::F32 x({n}, -5.0f);
      x[at] = -1.0f;
      EXPECT_EQ(cpu::max_value(n, x.data()), -1.0f) << n << " " << at;
    }
  }
}

TEST(ReductionChunks, CoverEveryTokenOnceAndInOrder) {
  for (int64_t n = 0; n < 3000; n = n * 5 / 4 + 1) {
    ASSERT_LE(cpu::reduction_chunks(n), cpu::kReductionChunks);
    int64_t next = 0;
    for (int64_t chunk = 0; chunk < cpu::reduction_chunks(n); ++chunk) {
      const cpu::TokenRange range = cpu::reduction_chunk(n, chunk);
      EXPECT_EQ(range.begin, next);
      EXPECT_GE(range.end, range.begin);
      next = range.end;
    }
    EXPECT_EQ(next, n);
  }
}

}  // namespace
}  // namespace depthroute
