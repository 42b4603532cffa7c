#include <array>

#include "tests/kernels/op_test.h"

namespace depthroute {
namespace {

using test::BF16;
using test::F32;
using test::F64;
using test::random_f32;
using test::stream;

constexpr ops::AdamwStep kStep{.lr = 1e-2f,
                               .beta1 = 0.9f,
                               .beta2 = 0.95f,
                               .eps = 1e-8f,
                               .weight_decay = 0.1f,
                               .max_norm = 1.0f,
                               .step = 1};

// AdamW (train/model/SPEC.md §3) in float64, with the float32 hyperparameters that the op gets.
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

// All tensors of one optimizer; on a GPU also the bf16 copy that forward and backward use.
struct Optimizer {
  F32 param, m, v, norm{{1}};
  F64 loss{{1}, 2.5};
  BF16 compute;

  explicit Optimizer(int64_t n) : param(random_f32({n}, 1)), m({n}, 0.0f), v({n}, 0.0f), compute({n}) {}

  void global_norm(const F32& grad) { norm = test::global_norm(grad); }
  void update(const ops::AdamwStep& step, const F32& grad) { update(step, grad, 0, grad.size()); }
  void update(const ops::AdamwStep& step, const F32& grad, int64_t begin, int64_t end) {
    const auto part = [&](const Tensor& all) { return all.slice(begin, end); };
    ops::adamw(stream(), step, norm, loss, part(grad), part(param), part(m), part(v),
               test::on_cuda() ? part(compute) : Tensor{});
  }
  bool operator==(const Optimizer&) const = default;
};

class Adamw : public testing::TestWithParam<std::tuple<int64_t, float, float>> {};  // size, max_norm, decay

TEST_P(Adamw, FollowsTheFloat64LoopOverSeveralSteps) {
  const auto [n, max_norm, decay] = GetParam();
  Optimizer o(n);
  std::vector<double> want_param = o.param.doubles(), want_m(n), want_v(n);
  for (int64_t t = 1; t <= 7; ++t) {
    const F32 grad = random_f32({n}, 100 + t, t == 3 ? 1e-3 : 2.0);  // step 3 is not clipped
    ops::AdamwStep step = kStep;
    step.step = t;
    step.max_norm = max_norm;
    step.weight_decay = decay;
    o.global_norm(grad);
    o.update(step, grad);
    oracle_adamw(step, grad.doubles(), want_param, want_m, want_v);
    EXPECT_NEAR(o.norm[0], std::sqrt(test::inner(grad.doubles(), grad.doubles())), 1e-6 * o.norm[0]);
  }
  EXPECT_LE(relative_l2(o.param, want_param), tolerance::kF32Forward);
  EXPECT_LE(relative_l2(o.m, want_m), tolerance::kF32Forward);
  EXPECT_LE(relative_l2(o.v, want_v), tolerance::kF32Forward);
  EXPECT_TRUE(o.compute == (test::on_cuda() ? test::to_bf16(o.param, {n}) : BF16({n})));
}
INSTANTIATE_TEST_SUITE_P(Shapes, Adamw,
                         testing::Values(std::tuple{1, 1.0f, 0.1f}, std::tuple{33, 0.0f, 0.1f},
                                         std::tuple{33, 0.5f, 0.0f}, std::tuple{40'001, 1.0f, 0.1f}));

// Ranks own slices of the parameters, which start and end anywhere.
TEST(Adamw, PartsGiveWhatTheWholeGives) {
  constexpr int64_t kN = 1001;
  const F32 grad = random_f32({kN}, 2);
  Optimizer whole(kN), parts(kN);
  for (Optimizer* o : {&whole, &parts}) o->global_norm(grad);
  whole.update(kStep, grad);
  constexpr std::array<int64_t, 6> kBorders = {0, 3, 8, 530, 990, kN};
  for (size_t i = 0; i + 1 < kBorders.size(); ++i) parts.update(kStep, grad, kBorders[i], kBorders[i + 1]);
  EXPECT_TRUE(parts == whole);
}

TEST(Adamw, ANormOrALossThatIsNotFiniteLeavesEverythingUntouched) {
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                    -std::numeric_limits<float>::infinity()}) {
    F32 grad = random_f32({65}, 2);
    Optimizer o(65);
    o.global_norm(grad);
    o.loss[0] = static_cast<double>(bad);
    const Optimizer before = o;
    o.update(kStep, grad);
    EXPECT_TRUE(o == before);

    o.loss[0] = 1.0;
    grad[64] = bad;
    o.global_norm(grad);
    EXPECT_FALSE(std::isfinite(o.norm[0]));
    const Optimizer with_norm = o;
    o.update(kStep, grad);
    EXPECT_TRUE(o == with_norm);
  }
}

TEST(GlobalNorm, IsInfiniteOnlyWhereFloat32CannotHoldIt) {
  Optimizer o(9);
  o.global_norm(F32({9}, 1e20f));  // squares overflow float32, the norm does not
  EXPECT_FLOAT_EQ(o.norm[0], 3e20f);
}

TEST(Adamw, DoesNotDependOnTheNumberOfThreads) {
  test::expect_independent_of_threads([] {
    constexpr int64_t kN = 70'001;
    Optimizer o(kN);
    const F32 grad = random_f32({kN}, 3);
    o.global_norm(grad);
    o.update(kStep, grad);
    return std::vector{o.param, o.m, o.v, o.norm};
  });
}

}  // namespace
}  // namespace depthroute
