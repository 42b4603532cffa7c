#include "tests/kernels/op_test.h"

namespace depthroute {
namespace {

using test::F32;
using test::kCpu;
using test::random_f32;

std::vector<double> oracle(int64_t n, int64_t d, const std::vector<double>& x,
                           const std::vector<double>& weight, double eps) {
  std::vector<double> y(n * d);
  for (int64_t i = 0; i < n; ++i) {
    double squares = 0;
    for (int64_t c = 0; c < d; ++c) squares += x[i * d + c] * x[i * d + c];
    const double r = 1 / std::sqrt(squares / static_cast<double>(d) + eps);
    for (int64_t c = 0; c < d; ++c) y[i * d + c] = x[i * d + c] * r * weight[c];
  }
  return y;
}

class RmsNorm : public testing::TestWithParam<std::tuple<int64_t, int64_t>> {};  // N, D

TEST_P(RmsNorm, ForwardMatchesFloat64) {
  const auto [n, d] = GetParam();
  const F32 x = random_f32({n, d}, 1, 3.0), weight = random_f32({d}, 2, 0.5, 1.0);
  F32 y({n, d}), rstd({n});
  ops::rms_norm_forward(kCpu, x, weight, 1e-6f, y, rstd);
  EXPECT_LE(relative_l2(y, oracle(n, d, x.doubles(), weight.doubles(), 1e-6f)), tolerance::kF32Forward);
  for (int64_t i = 0; i < n; ++i) {
    double squares = 0;
    for (int64_t c = 0; c < d; ++c)
      squares += static_cast<double>(x[i * d + c]) * static_cast<double>(x[i * d + c]);
    const double want = 1 / std::sqrt(squares / static_cast<double>(d) + 1e-6);
    EXPECT_NEAR(rstd[i], want, tolerance::kF32Statistics * want);
  }
}

// Both gradients against central differences of the float64 loop, added to what was there.
TEST_P(RmsNorm, BackwardIsTheGradientAndAccumulates) {
  const auto [n, d] = GetParam();
  const float eps = 1e-2f;  // D = 1 leaves nothing but eps in dx
  const F32 x = random_f32({n, d}, 1), weight = random_f32({d}, 2, 0.5, 1.0), dy = random_f32({n, d}, 3);
  F32 y({n, d}), rstd({n}), dx = random_f32({n, d}, 4), dweight = random_f32({d}, 5);
  std::vector<double> want_dx = dx.doubles(), want_dweight = dweight.doubles();
  ops::rms_norm_forward(kCpu, x, weight, eps, y, rstd);
  ops::rms_norm_backward(kCpu, dy, x, weight, rstd, dx, dweight,
                         test::workspace(ops::reduction_workspace(d)));

  std::vector<double> x64 = x.doubles(), weight64 = weight.doubles();
  const std::vector<double> dy64 = dy.doubles();
  for (int64_t i = 0; i < n; ++i) {  // a row's loss depends on that row alone
    std::vector<double> row(x64.begin() + i * d, x64.begin() + (i + 1) * d);
    const std::vector<double> dy_row(dy64.begin() + i * d, dy64.begin() + (i + 1) * d);
    const auto loss = [&] { return test::inner(oracle(1, d, row, weight64, eps), dy_row); };
    const std::vector<double> dx_row = test::finite_difference(row, loss);
    for (int64_t c = 0; c < d; ++c) want_dx[i * d + c] += dx_row[c];
    const std::vector<double> dw_row = test::finite_difference(weight64, loss);
    for (int64_t c = 0; c < d; ++c) want_dweight[c] += dw_row[c];
  }
  EXPECT_LE(relative_l2(dx, want_dx), tolerance::kF32Backward);
  EXPECT_LE(relative_l2(dweight, want_dweight), tolerance::kF32Backward);
}
INSTANTIATE_TEST_SUITE_P(Shapes, RmsNorm,
                         testing::Values(std::tuple{1, 1}, std::tuple{7, 5}, std::tuple{33, 32},
                                         std::tuple{33, 100}, std::tuple{200, 1}));

TEST(RmsNorm, DoesNotDependOnTheNumberOfThreads) {
  test::expect_independent_of_threads([] {
    constexpr int64_t kN = 301, kD = 100;
    const F32 x = random_f32({kN, kD}, 1), weight = random_f32({kD}, 2);
    F32 y({kN, kD}), rstd({kN}), dx({kN, kD}, 0.0f), dweight({kD}, 0.0f);
    ops::rms_norm_forward(kCpu, x, weight, 1e-6f, y, rstd);
    ops::rms_norm_backward(kCpu, y, x, weight, rstd, dx, dweight,
                           test::workspace(ops::reduction_workspace(kD)));
    return std::vector{y, rstd, dx, dweight};
  });
}

}  // namespace
}  // namespace depthroute
