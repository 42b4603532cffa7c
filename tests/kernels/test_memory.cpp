#include <algorithm>
#include <numeric>

#include "tests/kernels/op_test.h"

namespace depthroute {
namespace {

using test::BF16;
using test::F32;
using test::F64;
using test::I32;
using test::random_f32;
using test::stream;

class Memory : public testing::TestWithParam<int64_t> {};

TEST_P(Memory, ZeroFillAndCopy) {
  const int64_t n = GetParam();
  F32 x({n});
  const F32 y = random_f32({n}, 1);
  ops::zero(stream(), x);
  EXPECT_TRUE(x == F32({n}, 0.0f));
  ops::fill(stream(), x, 2.5f);
  EXPECT_TRUE(x == F32({n}, 2.5f));
  ops::copy(stream(), y, x);
  EXPECT_TRUE(x == y);
  I32 tokens({n}), targets = test::random_i32({n}, 2, 0, 1000);
  ops::copy(stream(), targets, tokens);
  EXPECT_TRUE(tokens == targets);
  ops::zero(stream(), tokens);
  EXPECT_TRUE(tokens == I32({n}, 0));
}

TEST_P(Memory, AddRoundsOnce) {
  test::for_each_activation_type([n = GetParam()]<typename Act>() {
    const Act x = test::random_activations<Act>({n}, 1);
    Act y = test::random_activations<Act>({n}, 2), want = y;
    for (int64_t i = 0; i < n; ++i) want[i] = static_cast<float>(x[i]) + static_cast<float>(want[i]);
    ops::add(stream(), x, y);
    EXPECT_TRUE(y == want);
  });
}

TEST_P(Memory, CastRoundsToNearestEven) {
  const int64_t n = GetParam();
  F32 x = random_f32({n}, 5, 100.0), same({n});
  ops::cast(stream(), x, same);
  EXPECT_TRUE(same == x);
  if (!test::on_cuda()) return;  // the CPU computes in f32 only
  // The first two are ties.
  const std::vector<float> special = {1.00390625f, 1.01171875f, -0.0f, 3.4e38f, 1e-40f};
  std::copy_n(special.begin(), std::min<int64_t>(n, special.size()), x.data());
  BF16 rounded({n});
  F32 back({n});
  ops::cast(stream(), x, rounded);
  EXPECT_TRUE(rounded == test::to_bf16(x, {n}));
  ops::cast(stream(), rounded, back);
  for (int64_t i = 0; i < n; ++i) ASSERT_EQ(back[i], static_cast<float>(rounded[i]));
}

TEST_P(Memory, SumAddsToTheTotalInFloat64) {
  const int64_t n = GetParam();
  const F32 x = random_f32({n}, 3, 1.0, 100.0);
  F64 total({1}, 7.0);
  ops::sum(stream(), x, total);
  const std::vector<double> values = x.doubles();
  EXPECT_NEAR(total[0], std::accumulate(values.begin(), values.end(), 7.0), 1e-12 * total[0]);
}
INSTANTIATE_TEST_SUITE_P(Sizes, Memory, testing::Values(1, 7, 33, 16'384, 16'401, 1'100'003));

// A slice of a tensor may start at any element: without 16-byte accesses, the numbers must be the same.
TEST(Memory, PartsOfTensorsNeedNoAlignment) {
  constexpr int64_t kN = 1003, kFirst = 3;
  F32 x = random_f32({kN}, 1), y = random_f32({kN}, 2), want = y;
  const auto part = [](const Tensor& all) { return all.slice(kFirst, kN - 1); };
  ops::add(stream(), part(x), part(y));
  for (int64_t i = kFirst; i < kN - 1; ++i) want[i] += x[i];
  EXPECT_TRUE(y == want);
  F64 total({1}, 0.0), want_total({1}, 0.0);
  F32 aligned({kN - 1 - kFirst});
  std::copy_n(x.data() + kFirst, aligned.size(), aligned.data());
  ops::sum(stream(), part(x), total);
  ops::sum(stream(), aligned, want_total);
  EXPECT_EQ(total[0], want_total[0]);
  EXPECT_EQ(test::global_norm(part(x))[0], test::global_norm(aligned)[0]);
  ops::fill(stream(), part(y), 2.0f);
  for (int64_t i = 0; i < kN; ++i) ASSERT_EQ(y[i], i >= kFirst && i < kN - 1 ? 2.0f : want[i]);
}

// More elements than a GPU's largest grid handles at once.
TEST(Memory, LargeTensorsTakeSeveralTurns) {
  constexpr int64_t kN = (1 << 23) + 100'003;
  F32 x({kN});
  ops::fill(stream(), x, 2.5f);
  EXPECT_FLOAT_EQ(test::global_norm(x)[0], static_cast<float>(2.5 * std::sqrt(static_cast<double>(kN))));
  const std::span<const float> values = x.span();
  EXPECT_EQ(std::count(values.begin(), values.end(), 2.5f), kN);
}

TEST(Memory, SumsDoNotDependOnTheNumberOfThreads) {
  // Over many orders of magnitude: equal values would add up exactly in any order.
  F32 x = random_f32({300'007}, 4);
  for (int64_t i = 0; i < x.size(); ++i) x[i] = std::ldexp(x[i], static_cast<int>(i % 60) - 30);
  test::expect_independent_of_threads([&] {
    F64 total({1}, 0.0);
    F32 halves({2});
    ops::sum(stream(), x, total);
    std::memcpy(halves.data(), total.data(), sizeof(double));
    return std::vector{test::global_norm(x), halves};
  });
}

}  // namespace
}  // namespace depthroute
