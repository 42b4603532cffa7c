#include "tests/kernels/op_test.h"

namespace depthroute {
namespace {

using test::F32;
using test::kCpu;
using test::random_f32;

constexpr ops::AdamwStep kStep{.lr = 1e-2f,
                               .beta1 = 0.9f,
                               .beta2 = 0.95f,
                               .eps = 1e-8f,
                               .weight_decay = 0.1f,
                               .max_norm = 1.0f,
                               .step = 1};

// SPEC §3 in float64, on the float32 hyper-parameters the op gets.
void oracle_adamw(const ops::AdamwStep& step, const std::vector<double>& grad, std::vector<double>& param,
                  std::vector<double>& m, std::vector<double>& v) {
  const double norm = std::sqrt(test::inner(grad, grad));
  const double clip =
      step.max_norm == 0 ? 1.0 : std::min(1.0, static_cast<double>(step.max_norm) / (norm + 1e-6));
  const double lr = step.lr, beta1 = step.beta1, beta2 = step.beta2, eps = step.eps,
               decay = step.weight_decay;
  const double t = static_cast<double>(step.step);
  for (size_t i = 0; i < grad.size(); ++i) {
    const double g = grad[i] * clip;
    m[i] = beta1 * m[i] + (1 - beta1) * g;
    v[i] = beta2 * v[i] + (1 - beta2) * g * g;
    const double m_hat = m[i] / (1 - std::pow(beta1, t));
    const double v_hat = v[i] / (1 - std::pow(beta2, t));
    param[i] -= lr * (m_hat / (std::sqrt(v_hat) + eps) + decay * param[i]);
  }
}

class Adamw : public testing::TestWithParam<std::tuple<int64_t, float, float>> {};  // size, max_norm, decay

TEST_P(Adamw, FollowsTheFloat64LoopOverSeveralSteps) {
  const auto [n, max_norm, decay] = GetParam();
  F32 param = random_f32({n}, 1), m({n}, 0.0f), v({n}, 0.0f), norm({1});
  std::vector<double> want_param = param.doubles(), want_m(n), want_v(n);
  for (int64_t t = 1; t <= 7; ++t) {
    const F32 grad = random_f32({n}, 100 + t, t == 3 ? 1e-3 : 2.0);  // clipped, and not
    ops::AdamwStep step = kStep;
    step.step = t;
    step.max_norm = max_norm;
    step.weight_decay = decay;
    ops::global_norm(kCpu, grad, norm);
    ops::adamw(kCpu, step, norm, grad, param, m, v);
    oracle_adamw(step, grad.doubles(), want_param, want_m, want_v);
    EXPECT_NEAR(norm[0], std::sqrt(test::inner(grad.doubles(), grad.doubles())), 1e-6 * norm[0]);
  }
  EXPECT_LE(relative_l2(param, want_param), tolerance::kF32Forward);
  EXPECT_LE(relative_l2(m, want_m), tolerance::kF32Forward);
  EXPECT_LE(relative_l2(v, want_v), tolerance::kF32Forward);
}
INSTANTIATE_TEST_SUITE_P(Shapes, Adamw,
                         testing::Values(std::tuple{1, 1.0f, 0.1f}, std::tuple{33, 0.0f, 0.1f},
                                         std::tuple{33, 0.5f, 0.0f}, std::tuple{40'001, 1.0f, 0.1f}));

TEST(Adamw, ANormThatIsNotFiniteLeavesEverythingUntouched) {
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    F32 grad = random_f32({65}, 2), param = random_f32({65}, 3), m = random_f32({65}, 4), v({65}, 0.25f),
        norm({1});
    grad[64] = bad;
    const F32 param_before = param, m_before = m, v_before = v;
    ops::global_norm(kCpu, grad, norm);
    EXPECT_FALSE(std::isfinite(norm[0]));
    ops::adamw(kCpu, kStep, norm, grad, param, m, v);
    EXPECT_TRUE(param == param_before);
    EXPECT_TRUE(m == m_before);
    EXPECT_TRUE(v == v_before);
  }
}

TEST(GlobalNorm, IsInfiniteOnlyWhereFloat32CannotHoldIt) {
  F32 norm({1});
  ops::global_norm(kCpu, F32({9}, 1e20f), norm);  // squares overflow float32, the norm does not
  EXPECT_FLOAT_EQ(norm[0], 3e20f);
}

TEST(Adamw, DoesNotDependOnTheNumberOfThreads) {
  test::expect_independent_of_threads([] {
    constexpr int64_t kN = 70'001;
    F32 param = random_f32({kN}, 1), m = random_f32({kN}, 2), v({kN}, 0.5f), norm({1});
    const F32 grad = random_f32({kN}, 3);
    ops::global_norm(kCpu, grad, norm);
    ops::adamw(kCpu, kStep, norm, grad, param, m, v);
    return std::vector{param, m, v, norm};
  });
}

}  // namespace
}  // namespace depthroute
