// Depth routing with bfloat16 activations against the float64 loops on the same rounded inputs. What remains
// is the rounding of what is stored in bfloat16: outputs, gradients, and h, which backward reads.
#include "tests/kernels/op_test.h"
#include "tests/kernels/routing_oracle.h"

namespace depthroute {
namespace {

using test::BF16;
using test::Doubles;
using test::F32;
using test::RoutingOracle;
using test::RoutingProblem;

constexpr float kDropped = -std::numeric_limits<float>::infinity();
using Result = test::RoutingResultOf<BF16>;

class RoutingBf16 : public testing::Test {
 protected:
  void SetUp() override {
    if (!test::on_cuda()) GTEST_SKIP() << "bfloat16 activations need device: cuda";
  }
};

/// Compares everything but the states' gradients.
void expect_site(const RoutingProblem& p, const Result& got, const RoutingOracle& want) {
  EXPECT_LT(test::relative_l2(got.output, want.output), tolerance::kBf16Output);
  EXPECT_LT(test::relative_l2(got.weights, want.weights), tolerance::kF32Statistics);
  EXPECT_LT(test::relative_l2(got.inv_rms, want.inv_rms), tolerance::kF32Statistics);
  EXPECT_LT(test::relative_l2(got.dots, want.dots), tolerance::kF32Statistics);
  EXPECT_LT(test::relative_l2(got.rstd, want.rstd), tolerance::kF32Statistics);
  EXPECT_LT(test::relative_l2(got.dnorm_weight, want.dnorm_weight), tolerance::kBf16Backward);
  if (p.n() == 1) {
    EXPECT_EQ(test::relative_l2(got.dlogits, want.dlogits), 0);
    return;
  }
  EXPECT_LT(test::relative_l2(got.dlogits, want.dlogits), tolerance::kBf16Backward);
  EXPECT_LT(test::relative_l2(got.dquery, want.dquery), tolerance::kBf16Backward);
  EXPECT_LT(test::relative_l2(got.dkey_norm, want.dkey_norm), tolerance::kBf16Backward);
  // The terms of the sum over tokens are accurate to kBf16Backward, and cancel.
  double terms = 0;
  for (int64_t t = 0; t < p.tokens; ++t) terms += std::abs(want.dlogits[(t + 1) * p.n() - 1]);
  EXPECT_NEAR(got.dbias[0], want.dbias[0], tolerance::kBf16Backward * terms);
}

/// Compares sites that share all sources but the last.
void expect_close(std::vector<RoutingProblem> group) {
  SCOPED_TRACE(testing::Message() << "N " << group[0].tokens << " D " << group[0].d << " n " << group[0].n()
                                  << " sites " << group.size());
  for (RoutingProblem& p : group) p.round_to_bf16();
  std::vector<Result> got(group.begin(), group.end());
  test::run_group(group, got);
  std::vector<Doubles> dstate(got[0].dstate.size(), Doubles(group[0].tokens * group[0].d));
  for (size_t g = 0; g < group.size(); ++g) {
    const RoutingOracle want = test::routing_oracle(group[g]);
    expect_site(group[g], got[g], want);
    for (size_t s = 0; s < dstate.size(); ++s)
      for (size_t i = 0; i < dstate[s].size(); ++i) dstate[s][i] += want.dstate[s][i];
  }
  // In short rows g and h are not nearly orthogonal, and the rounding of h is a larger part of dh.
  const double allowed = (group[0].d < 32 ? 2 : 1) * tolerance::kBf16Backward;
  for (size_t s = 0; s < dstate.size(); ++s)
    EXPECT_LT(test::relative_l2(got[0].dstate[s], dstate[s]), allowed) << "state " << s;
}

TEST_F(RoutingBf16, MatchesFloat64Loops) {
  for (int64_t d : {8, 104})
    for (int n : {1, 2, 3, 9, 57, 64}) expect_close({RoutingProblem::random(33, d, n, 40 + n)});
  for (int n : {1, 9, 64}) expect_close({RoutingProblem::random(9, 1024, n, 50 + n)});
  for (int64_t d : {1032, 4104}) expect_close({RoutingProblem::random(5, d, 6, 60)});
}

TEST_F(RoutingBf16, MatchesWithInterventions) {
  for (int64_t d : {104, 1024}) {
    RoutingProblem p = RoutingProblem::random(17, d, 6, 70);
    p.offset = {0, kDropped, 0.5f, 0, kDropped, 0};
    p.scale = {1, 0.5f, 0.3f, -1, 2, 0.7f};
    expect_close({p});
  }
}

TEST_F(RoutingBf16, GroupsMatchTheSumOfTheirSites) {
  for (int sites : {2, 5, 8}) expect_close(test::random_group(19, 104, 4, sites, 80));
  expect_close(test::random_group(9, 1024, 9, 8, 81));
  expect_close(test::random_group(3, 4104, 5, 3, 82));  // three launches: three roundings of each gradient
}

TEST_F(RoutingBf16, TheSumIsRoundedBeforeItIsRead) {
  RoutingProblem p = RoutingProblem::random(9, 1032, 5, 90);
  p.has_add = true;
  p.source[4] = 3;  // reads the sum as well
  p.state.pop_back();
  expect_close({p});
  p.round_to_bf16();
  const Result got = test::run_routing<BF16>(p);
  for (int64_t i = 0; i < p.add.size(); ++i)
    EXPECT_EQ(static_cast<float>(got.state[3][i]), static_cast<float>(test::Bf16(p.state[3][i] + p.add[i])));
}

// The rounding of h must not drown the query's gradient when states are close: it does not enter the
// differences that the gradient consists of.
TEST_F(RoutingBf16, QueryGradientSurvivesCancellation) {
  for (double spread : {0.3, 0.1, 0.03}) {
    RoutingProblem p = RoutingProblem::random(33, 256, 5, 11);
    for (int j = 1; j < p.n(); ++j) {
      const F32 noise = test::random_f32({p.tokens, p.d}, 60 + j, spread);
      for (int64_t i = 0; i < noise.size(); ++i) p.state[j][i] = p.state[0][i] + noise[i];
    }
    SCOPED_TRACE(spread);
    expect_close({p});
  }
}

}  // namespace
}  // namespace depthroute
