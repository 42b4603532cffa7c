#include "tests/kernels/op_test.h"

namespace depthroute {
namespace {

using test::F32;
using test::kCpu;
using test::random_f32;

std::vector<double> oracle(int64_t n, int64_t f, const std::vector<double>& gate_up) {
  std::vector<double> act(n * f);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t c = 0; c < f; ++c) {
      const double gate = gate_up[i * 2 * f + c];
      act[i * f + c] = gate / (1 + std::exp(-gate)) * gate_up[i * 2 * f + f + c];
    }
  }
  return act;
}

class Swiglu : public testing::TestWithParam<std::tuple<int64_t, int64_t>> {};  // N, F

TEST_P(Swiglu, ForwardAndBackwardMatchFloat64) {
  const auto [n, f] = GetParam();
  const F32 gate_up = random_f32({n, 2 * f}, 1, 3.0), dact = random_f32({n, f}, 2);
  F32 act({n, f}), act_again({n, f}), dgate_up({n, 2 * f});
  ops::swiglu_forward(kCpu, gate_up, act);
  ops::swiglu_backward(kCpu, dact, gate_up, dgate_up, act_again);
  EXPECT_LE(relative_l2(act, oracle(n, f, gate_up.doubles())), tolerance::kF32Forward);
  EXPECT_LE(relative_l2(act_again, oracle(n, f, gate_up.doubles())), tolerance::kF32Forward);

  // Element by element: the loss of one (gate, up) pair.
  std::vector<double> want(n * 2 * f);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t c = 0; c < f; ++c) {
      std::vector<double> pair = {gate_up[i * 2 * f + c], gate_up[i * 2 * f + f + c]};
      const std::vector<double> d = {dact[i * f + c]};
      const std::vector<double> gradient =
          test::finite_difference(pair, [&] { return test::inner(oracle(1, 1, pair), d); });
      want[i * 2 * f + c] = gradient[0];
      want[i * 2 * f + f + c] = gradient[1];
    }
  }
  EXPECT_LE(relative_l2(dgate_up, want), tolerance::kF32Backward);

  F32 in_place = gate_up;  // the gradient may take the place of its input
  ops::swiglu_backward(kCpu, dact, in_place, in_place, act);
  EXPECT_TRUE(in_place == dgate_up);
  EXPECT_TRUE(act == act_again);
}
INSTANTIATE_TEST_SUITE_P(Shapes, Swiglu,
                         testing::Values(std::tuple{1, 1}, std::tuple{7, 5}, std::tuple{33, 32},
                                         std::tuple{33, 100}));

TEST(Swiglu, LargeGatesSaturateAndNaNStaysVisible) {
  F32 gate_up({1, 6}, 1.0f), act({1, 3});
  gate_up[0] = -500.0f;
  gate_up[1] = 500.0f;
  gate_up[2] = std::numeric_limits<float>::quiet_NaN();
  ops::swiglu_forward(kCpu, gate_up, act);
  EXPECT_EQ(act[0], 0.0f);
  EXPECT_EQ(act[1], 500.0f);
  EXPECT_TRUE(std::isnan(act[2]));
}

TEST(Swiglu, DoesNotDependOnTheNumberOfThreads) {
  test::expect_independent_of_threads([] {
    F32 act({65, 33}), dgate_up({65, 66});
    ops::swiglu_backward(kCpu, random_f32({65, 33}, 1), random_f32({65, 66}, 2), dgate_up, act);
    return std::vector{act, dgate_up};
  });
}

}  // namespace
}  // namespace depthroute
