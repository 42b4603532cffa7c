#include <numeric>

#include "tests/kernels/op_test.h"

namespace depthroute {
namespace {

using test::F32;
using test::F64;
using test::I32;
using test::kCpu;
using test::random_f32;

class Memory : public testing::TestWithParam<int64_t> {};

TEST_P(Memory, ZeroFillCopyAndAdd) {
  const int64_t n = GetParam();
  F32 x({n}), y = random_f32({n}, 1);
  const F32 y_before = y;
  ops::zero(kCpu, x);
  EXPECT_TRUE(x == F32({n}, 0.0f));
  ops::fill(kCpu, x, 2.5f);
  EXPECT_TRUE(x == F32({n}, 2.5f));
  ops::add(kCpu, x, y);
  for (int64_t i = 0; i < n; ++i) ASSERT_EQ(y[i], y_before[i] + 2.5f);
  ops::copy(kCpu, y, x);
  EXPECT_TRUE(x == y);
  I32 tokens({n}), targets = test::random_i32({n}, 2, 0, 1000);
  ops::copy(kCpu, targets, tokens);
  EXPECT_TRUE(tokens == targets);
  ops::zero(kCpu, tokens);
  EXPECT_TRUE(tokens == I32({n}, 0));
}

TEST_P(Memory, SumAddsToTheTotalInFloat64) {
  const int64_t n = GetParam();
  const F32 x = random_f32({n}, 3, 1.0, 100.0);
  F64 total({1}, 7.0);
  ops::sum(kCpu, x, total);
  const std::vector<double> values = x.doubles();
  EXPECT_NEAR(total[0], std::accumulate(values.begin(), values.end(), 7.0), 1e-12 * total[0]);
}
INSTANTIATE_TEST_SUITE_P(Sizes, Memory, testing::Values(1, 7, 33, 16'384, 16'401, 1'100'003));

TEST(Memory, SumsDoNotDependOnTheNumberOfThreads) {
  F32 x = random_f32({300'007}, 4);  // over many orders of magnitude: equal ones add up exactly in any order
  for (int64_t i = 0; i < x.size(); ++i) x[i] = std::ldexp(x[i], static_cast<int>(i % 60) - 30);
  test::expect_independent_of_threads([&] {
    F64 total({1}, 0.0);
    F32 norm({1}), halves({2});
    ops::sum(kCpu, x, total);
    ops::global_norm(kCpu, x, norm);
    std::memcpy(halves.data(), total.data(), sizeof(double));
    return std::vector{norm, halves};
  });
}

}  // namespace
}  // namespace depthroute
