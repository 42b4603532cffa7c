#include "tests/kernels/op_test.h"

namespace depthroute {
namespace {

using test::F32;
using test::random_f32;
using test::stream;

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

template <typename Act>
void forward_and_backward_match_float64(int64_t n, int64_t f) {
  const Act gate_up = test::random_activations<Act>({n, 2 * f}, 1, 3.0);
  const Act dact = test::random_activations<Act>({n, f}, 2);
  Act act({n, f}), act_again({n, f}), dgate_up({n, 2 * f});
  ops::swiglu_forward(stream(), gate_up, act);
  ops::swiglu_backward(stream(), dact, gate_up, dgate_up, act_again);
  EXPECT_LE(relative_l2(act, oracle(n, f, gate_up.doubles())),
            test::activation_tolerance<Act>(tolerance::kF32Forward));
  EXPECT_TRUE(act_again == act);

  // Element by element, the loss of one (gate, up) pair.
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
  EXPECT_LE(relative_l2(dgate_up, want), test::activation_tolerance<Act>(tolerance::kF32Backward));

  Act in_place = gate_up;  // the gradient may overwrite its input
  ops::swiglu_backward(stream(), dact, in_place, in_place, act);
  EXPECT_TRUE(in_place == dgate_up);
  EXPECT_TRUE(act == act_again);

  Act alone({n, 2 * f});  // act was kept
  ops::swiglu_backward(stream(), dact, gate_up, alone, {});
  EXPECT_TRUE(alone == dgate_up);
}

TEST_P(Swiglu, ForwardAndBackwardMatchFloat64) {
  const auto [n, f] = GetParam();
  test::for_each_activation_type(
      [n = n, f = test::width(f)]<typename Act>() { forward_and_backward_match_float64<Act>(n, f); });
}
INSTANTIATE_TEST_SUITE_P(Shapes, Swiglu,
                         testing::Values(std::tuple{1, 1}, std::tuple{7, 5}, std::tuple{33, 32},
                                         std::tuple{33, 100}, std::tuple{3, 1100}));

TEST(Swiglu, LargeGatesSaturateAndNaNStaysVisible) {
  const int64_t f = test::width(3);
  F32 gate_up({1, 2 * f}, 1.0f), act({1, f});
  gate_up[0] = -500.0f;
  gate_up[1] = 500.0f;
  gate_up[2] = std::numeric_limits<float>::quiet_NaN();
  ops::swiglu_forward(stream(), gate_up, act);
  EXPECT_EQ(act[0], 0.0f);
  EXPECT_EQ(act[1], 500.0f);
  EXPECT_TRUE(std::isnan(act[2]));
}

TEST(Swiglu, DoesNotDependOnTheNumberOfThreads) {
  const int64_t f = test::width(33);
  test::expect_independent_of_threads([f] {
    F32 act({65, f}), dgate_up({65, 2 * f});
    ops::swiglu_backward(stream(), random_f32({65, f}, 1), random_f32({65, 2 * f}, 2), dgate_up, act);
    return std::vector{act, dgate_up};
  });
}

}  // namespace
}  // namespace depthroute
