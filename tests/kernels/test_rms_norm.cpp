#include "tests/kernels/op_test.h"

namespace depthroute {
namespace {

using test::F32;
using test::random_f32;
using test::stream;

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

template <typename Act>
void forward_matches_float64(int64_t n, int64_t d) {
  const Act x = test::random_activations<Act>({n, d}, 1, 3.0);
  const F32 weight = random_f32({d}, 2, 0.5, 1.0);
  Act y({n, d});
  F32 rstd({n});
  ops::rms_norm_forward(stream(), x, weight, 1e-6f, y, rstd);
  EXPECT_LE(relative_l2(y, oracle(n, d, x.doubles(), weight.doubles(), 1e-6f)),
            test::activation_tolerance<Act>(tolerance::kF32Forward));
  for (int64_t i = 0; i < n; ++i) {
    double squares = 0;
    for (int64_t c = 0; c < d; ++c)
      squares += static_cast<double>(x[i * d + c]) * static_cast<double>(x[i * d + c]);
    const double want = 1 / std::sqrt(squares / static_cast<double>(d) + 1e-6);
    EXPECT_NEAR(rstd[i], want, tolerance::kF32Statistics * want);
  }
}

TEST_P(RmsNorm, ForwardMatchesFloat64) {
  const auto [n, d] = GetParam();
  test::for_each_activation_type(
      [n = n, d = test::width(d)]<typename Act>() { forward_matches_float64<Act>(n, d); });
}

// Both gradients, added to what was there, against central differences of the float64 loop.
template <typename Act>
void backward_is_the_gradient_and_accumulates(int64_t n, int64_t d) {
  const float eps = 1e-2f;  // with D = 1, dx consists of nothing but eps
  const Act x = test::random_activations<Act>({n, d}, 1), dy = test::random_activations<Act>({n, d}, 3);
  const F32 weight = random_f32({d}, 2, 0.5, 1.0);
  Act y({n, d}), dx = test::random_activations<Act>({n, d}, 4);
  F32 rstd({n}), dweight = random_f32({d}, 5);
  std::vector<double> want_dx = dx.doubles(), want_dweight = dweight.doubles();
  ops::rms_norm_forward(stream(), x, weight, eps, y, rstd);
  ops::rms_norm_backward(stream(), dy, x, weight, rstd, dx, dweight,
                         test::workspace(ops::reduction_workspace(test::device(), d)));

  std::vector<double> x64 = x.doubles(), weight64 = weight.doubles();
  const std::vector<double> dy64 = dy.doubles();
  for (int64_t i = 0; i < n; ++i) {  // a row's loss depends on that row only
    std::vector<double> row(x64.begin() + i * d, x64.begin() + (i + 1) * d);
    const std::vector<double> dy_row(dy64.begin() + i * d, dy64.begin() + (i + 1) * d);
    const auto loss = [&] { return test::inner(oracle(1, d, row, weight64, eps), dy_row); };
    const std::vector<double> dx_row = test::finite_difference(row, loss);
    for (int64_t c = 0; c < d; ++c) want_dx[i * d + c] += dx_row[c];
    const std::vector<double> dw_row = test::finite_difference(weight64, loss);
    for (int64_t c = 0; c < d; ++c) want_dweight[c] += dw_row[c];
  }
  EXPECT_LE(relative_l2(dx, want_dx), test::activation_tolerance<Act>(tolerance::kF32Backward));
  EXPECT_LE(relative_l2(dweight, want_dweight), tolerance::kF32Backward);
}

TEST_P(RmsNorm, BackwardIsTheGradientAndAccumulates) {
  const auto [n, d] = GetParam();
  test::for_each_activation_type(
      [n = n, d = test::width(d)]<typename Act>() { backward_is_the_gradient_and_accumulates<Act>(n, d); });
}
INSTANTIATE_TEST_SUITE_P(Shapes, RmsNorm,
                         testing::Values(std::tuple{1, 1}, std::tuple{7, 5}, std::tuple{33, 32},
                                         std::tuple{33, 100}, std::tuple{200, 1}, std::tuple{9, 600},
                                         std::tuple{2, 2050}));

TEST(RmsNorm, DoesNotDependOnTheNumberOfThreads) {
  test::expect_independent_of_threads([] {
    const int64_t n = 301, d = test::width(100);
    const F32 x = random_f32({n, d}, 1), weight = random_f32({d}, 2);
    F32 y({n, d}), rstd({n}), dx({n, d}, 0.0f), dweight({d}, 0.0f);
    ops::rms_norm_forward(stream(), x, weight, 1e-6f, y, rstd);
    ops::rms_norm_backward(stream(), y, x, weight, rstd, dx, dweight,
                           test::workspace(ops::reduction_workspace(test::device(), d)));
    return std::vector{y, rstd, dx, dweight};
  });
}

}  // namespace
}  // namespace depthroute
