// What must hold for depth routing whatever the numbers are.
#include <algorithm>

#include "tests/kernels/op_test.h"
#include "tests/kernels/routing_oracle.h"

namespace depthroute {
namespace {

using test::F32;
using test::RoutingProblem;
using test::RoutingResult;

constexpr float kDropped = -std::numeric_limits<float>::infinity();

/// RMSNorm of the rows of x in float64.
test::Doubles normalised(const RoutingProblem& p, const test::Doubles& x) {
  test::Doubles y(x.size());
  for (int64_t t = 0; t < p.tokens; ++t) {
    double squares = 0;
    for (int64_t i = 0; i < p.d; ++i) squares += x[t * p.d + i] * x[t * p.d + i];
    const double rstd = 1 / std::sqrt(squares / static_cast<double>(p.d) + p.norm_eps);
    for (int64_t i = 0; i < p.d; ++i) y[t * p.d + i] = x[t * p.d + i] * rstd * p.norm_weight[i];
  }
  return y;
}

TEST(RoutingProperties, WeightsSumToOne) {
  for (int n : {1, 2, 9, 64}) {
    RoutingProblem p = RoutingProblem::random(13, test::width(50), n, n);
    p.query = test::random_f32({p.d}, 3, 2.0);
    const RoutingResult got = test::run_routing(p);
    for (int64_t t = 0; t < p.tokens; ++t) {
      double total = 0;
      for (int j = 0; j < n; ++j) {
        EXPECT_GE(got.weights[t * n + j], 0.0f);
        total += got.weights[t * n + j];
      }
      EXPECT_NEAR(total, 1, 1e-6);
    }
  }
}

/// dV and the gradients of the first part alone, for beta, `add` and what dcurrent holds before.
F32 current_gradient(const RoutingProblem& p, const Tensor& add, float beta, const F32& before) {
  RoutingResult result(p);
  const test::RoutingCall<F32> call(p, result, result.state);
  ops::routing_forward(test::stream(), call.site, {}, result.output);
  F32 dcurrent = before;
  ops::routing_backward(test::stream(), call.site, call.doutput, add, beta, dcurrent, call.gradients,
                        test::workspace(ops::reduction_workspace(test::device(), p.d)));
  return dcurrent;
}

TEST(RoutingProperties, TheCurrentGradientStartsFromNothingFromItselfAndFromASum) {
  for (const bool routed : {true, false}) {
    RoutingProblem p = RoutingProblem::random(37, test::width(33), routed ? 3 : 1, 4);
    p.has_add = false;
    p.has_query = p.has_bias = routed;
    const F32 zeros({p.tokens, p.d}, 0.0f), held = test::random_f32({p.tokens, p.d}, 8),
                                            add = test::random_f32({p.tokens, p.d}, 9),
                                            garbage({p.tokens, p.d}, std::numeric_limits<float>::quiet_NaN());
    const F32 alone = current_gradient(p, {}, 1, zeros);
    EXPECT_TRUE(current_gradient(p, {}, 0, garbage) == alone);
    const auto expect_sum = [&](const F32& got, bool with_held) {
      for (int64_t i = 0; i < alone.size(); ++i)
        ASSERT_NEAR(got[i], alone[i] + add[i] + (with_held ? held[i] : 0.0f), 1e-6) << i;
    };
    expect_sum(current_gradient(p, add, 0, garbage), false);
    expect_sum(current_gradient(p, add, 1, held), true);
  }
}

// A source whose weight is 0 gets no gradient through the site, but what the residual addition passes on.
TEST(RoutingProperties, ASourceWithoutWeightStillPassesGradientsOn) {
  RoutingProblem p = RoutingProblem::random(9, test::width(17), 3, 5);
  p.has_add = false;
  p.offset = {0.0f, 0.0f, kDropped};
  const F32 add = test::random_f32({p.tokens, p.d}, 9), held = test::random_f32({p.tokens, p.d}, 8),
            garbage({p.tokens, p.d}, std::numeric_limits<float>::quiet_NaN());
  EXPECT_TRUE(current_gradient(p, add, 0, garbage) == add);
  EXPECT_TRUE(current_gradient(p, {}, 0, garbage) == F32({p.tokens, p.d}, 0.0f));
  EXPECT_TRUE(current_gradient(p, {}, 1, held) == held);
  const F32 both = current_gradient(p, add, 1, held);
  for (int64_t i = 0; i < both.size(); ++i) ASSERT_EQ(both[i], held[i] + add[i]) << i;
}

/// The gradients of the shared sources of a group of one site, from `before`.
std::vector<F32> shared_gradients(const RoutingProblem& p, std::span<const float> betas, const F32& before) {
  RoutingResult result(p);
  const test::RoutingCall<F32> call(p, result, result.state);
  ops::routing_forward(test::stream(), call.site, {}, result.output);
  const F32 scratch = test::workspace(ops::routing_backward_workspace(test::device(), p.d));
  F32 dcurrent = before;
  ops::routing_backward(test::stream(), call.site, call.doutput, {}, 0, dcurrent, call.gradients, scratch);
  std::vector<F32> held(static_cast<size_t>(p.n()) - 1, before);
  const std::vector<Tensor> dsources(held.begin(), held.end()), doutputs = {call.doutput};
  const std::vector<ops::RoutingSite> sites = {call.site};
  const std::vector<ops::RoutingGradients> gradients = {call.gradients};
  ops::routing_backward_shared(test::stream(), sites, doutputs, dsources, betas, gradients, scratch);
  return held;
}

TEST(RoutingProperties, SharedGradientsAreWrittenWhereBetaIs0) {
  for (const bool drops : {false, true}) {
    RoutingProblem p = RoutingProblem::random(21, test::width(41), 6, 7);
    p.has_add = false;
    if (drops) p.offset = {0.0f, kDropped, 0.0f, kDropped, 0.0f, 0.0f};
    const F32 zeros({p.tokens, p.d}, 0.0f), garbage({p.tokens, p.d}, std::numeric_limits<float>::quiet_NaN());
    const std::vector<F32> want = shared_gradients(p, {}, zeros);
    EXPECT_TRUE(shared_gradients(p, std::vector<float>(5, 1.0f), zeros) == want);
    EXPECT_TRUE(shared_gradients(p, std::vector<float>(5, 0.0f), garbage) == want);
  }
}

TEST(RoutingProperties, OneSourceIsTheIdentity) {
  const RoutingProblem p = RoutingProblem::random(40, test::width(33), 1, 1);
  const RoutingResult got = test::run_routing(p);
  for (int64_t t = 0; t < p.tokens; ++t) EXPECT_EQ(got.weights[t], 1.0f);
  EXPECT_LT(test::relative_l2(got.output, normalised(p, p.state[0].doubles())), tolerance::kF32Forward);
  for (int64_t i = 0; i < p.d; ++i) {
    EXPECT_EQ(got.dquery[i], 0.0f);
    EXPECT_EQ(got.dkey_norm[i], 0.0f);
  }
  EXPECT_EQ(got.dbias[0], 0.0f);
  for (int64_t t = 0; t < p.tokens; ++t) EXPECT_EQ(got.dlogits[t], 0.0f);

  RoutingProblem plain = p;  // the additive variant: no routing parameters at all
  plain.has_query = plain.has_bias = false;
  const RoutingResult want = test::run_routing(plain);
  EXPECT_TRUE(got.output == want.output);
  EXPECT_TRUE(got.dstate[0] == want.dstate[0]);
  EXPECT_TRUE(got.dnorm_weight == want.dnorm_weight);
}

// Identical sources: whatever the weights, h is the source, and no logit matters.
TEST(RoutingProperties, EqualSourcesHaveNoLogitGradient) {
  RoutingProblem p = RoutingProblem::random(20, 64, 4, 2);
  for (F32& s : p.state) s = p.state[0];
  const RoutingResult got = test::run_routing(p);
  EXPECT_LT(test::relative_l2(got.output, normalised(p, p.state[0].doubles())), tolerance::kF32Forward);
  for (int64_t i = 0; i < p.d; ++i) EXPECT_EQ(got.dquery[i], 0.0f);
  for (int64_t i = 0; i < got.dlogits.size(); ++i) EXPECT_EQ(got.dlogits[i], 0.0f);
  EXPECT_EQ(got.dbias[0], 0.0f);
}

TEST(RoutingProperties, PermutingCompletedBlocksPermutesTheirWeights) {
  const RoutingProblem p = RoutingProblem::random(11, test::width(100), 6, 3);
  RoutingProblem permuted = p;
  permuted.source = {3, 0, 4, 1, 2, 5};
  const RoutingResult want = test::run_routing(p), got = test::run_routing(permuted);
  for (int64_t t = 0; t < p.tokens; ++t)
    for (int j = 0; j < p.n(); ++j)
      EXPECT_NEAR(got.weights[t * p.n() + j], want.weights[t * p.n() + permuted.source[j]], 1e-6);
  EXPECT_LT(test::relative_l2(got.output, want.output.doubles()), tolerance::kF32Forward);
  EXPECT_LT(test::relative_l2(got.dquery, want.dquery.doubles()), tolerance::kF32Backward);
  for (int s = 0; s < p.n(); ++s)
    EXPECT_LT(test::relative_l2(got.dstate[s], want.dstate[s].doubles()), tolerance::kF32Backward);
}

TEST(RoutingProperties, ZeroQueryIsTheAverage) {
  RoutingProblem p = RoutingProblem::random(8, test::width(41), 5, 4);
  p.query.fill(0.0f);
  p.bias.fill(0.0f);
  const RoutingResult got = test::run_routing(p);
  test::Doubles average(p.tokens * p.d);
  for (const F32& s : p.state)
    for (int64_t i = 0; i < s.size(); ++i) average[i] += static_cast<double>(s[i]) / p.n();
  for (int64_t i = 0; i < got.weights.size(); ++i) EXPECT_EQ(got.weights[i], 0.2f);
  EXPECT_LT(test::relative_l2(got.output, normalised(p, average)), tolerance::kF32Forward);
}

// The recency schedule (train/model/SPEC.md §1): weights that do not depend on content.
TEST(RoutingProperties, RecencyBiasGivesTheSchedule) {
  for (double b : {0.0, 3.0, 10.0, 30.0}) {
    RoutingProblem p = RoutingProblem::random(8, test::width(41), 7, 5);
    p.query.fill(0.0f);
    p.bias.fill(static_cast<float>(b));
    const RoutingResult got = test::run_routing(p);
    const double total = std::exp(b) + p.n() - 1;
    for (int64_t t = 0; t < p.tokens; ++t)
      for (int j = 0; j < p.n(); ++j) {
        const double want = (j == p.n() - 1 ? std::exp(b) : 1.0) / total;
        EXPECT_NEAR(got.weights[t * p.n() + j], want, 1e-6 * want);
      }
    if (b < 30) continue;
    const F32& last = p.state.back();
    EXPECT_LT(test::relative_l2(got.output, normalised(p, last.doubles())), tolerance::kF32Forward);
  }
}

TEST(RoutingProperties, DoublingEverySourceChangesNothingUpToEps) {
  RoutingProblem p = RoutingProblem::random(9, test::width(100), 4, 6);
  RoutingProblem doubled = p;
  for (F32& s : doubled.state)
    for (int64_t i = 0; i < s.size(); ++i) s[i] *= 2.0f;
  EXPECT_LT(test::relative_l2(test::run_routing(doubled).output, test::run_routing(p).output.doubles()),
            1e-5);
  p.key_eps = p.norm_eps = doubled.key_eps = doubled.norm_eps = 0;
  const RoutingResult want = test::run_routing(p), got = test::run_routing(doubled);
  EXPECT_TRUE(got.weights == want.weights);
  EXPECT_TRUE(got.output == want.output);
  EXPECT_TRUE(got.dquery == want.dquery);
}

// A dropped source has the same effect as an absent one, whatever it holds.
TEST(RoutingProperties, ADroppedSourceDoesNotMatter) {
  const int64_t tokens = 40, d = test::width(21);
  for (bool has_query : {true, false})
    for (int dropped : {0, 2, 4}) {
      RoutingProblem p = RoutingProblem::random(tokens, d, 5, 7);
      p.has_query = has_query;
      p.has_bias = false;
      RoutingProblem without = p;
      without.source.erase(without.source.begin() + dropped);
      p.offset.assign(5, 0.0f);
      p.offset[dropped] = kDropped;
      for (int64_t i = 0; i < p.state[dropped].size(); ++i)
        p.state[dropped][i] =
            i % 2 ? std::numeric_limits<float>::quiet_NaN() : std::numeric_limits<float>::infinity();
      const RoutingResult got = test::run_routing(p), want = test::run_routing(without);
      // Bit for bit, unless the site without it has another last source, which the kernels treat differently;
      // on cuda, a source's position decides in which order its weight is added.
      const bool exact = dropped != 4 && !test::on_cuda();
      const auto expect_equal = [&](const F32& a, const F32& b, const char* name) {
        const double difference = test::relative_l2(a, b.doubles());
        EXPECT_LE(difference, exact ? 0 : tolerance::kF32Backward) << name << " without " << dropped;
      };
      expect_equal(got.output, want.output, "output");
      expect_equal(got.dnorm_weight, want.dnorm_weight, "norm_weight");
      expect_equal(got.dquery, want.dquery, "query");
      for (int s = 0; s < 5; ++s) expect_equal(got.dstate[s], want.dstate[s], "state");
      for (int64_t t = 0; t < tokens; ++t) EXPECT_EQ(got.weights[t * 5 + dropped], 0.0f);
    }
}

TEST(RoutingProperties, TheBiasOfADroppedSourceHasNoGradient) {
  RoutingProblem p = RoutingProblem::random(10, test::width(21), 3, 10);
  EXPECT_NE(test::run_routing(p).dbias[0], 0.0f);
  p.offset = {0, 0, kDropped};
  EXPECT_EQ(test::run_routing(p).dbias[0], 0.0f);
}

TEST(RoutingProperties, NanReachesTheOutput) {
  RoutingProblem p = RoutingProblem::random(4, test::width(21), 3, 8);
  p.state[1][2 * p.d + p.d - 1] = std::numeric_limits<float>::quiet_NaN();
  const RoutingResult got = test::run_routing(p);
  for (int64_t t = 0; t < p.tokens; ++t)
    for (int64_t i = 0; i < p.d; ++i) EXPECT_EQ(std::isnan(got.output[t * p.d + i]), t == 2);
}

TEST(RoutingProperties, SplittingTheBatchChangesNothing) {
  RoutingProblem p = RoutingProblem::random(24, test::width(37), 4, 9);
  p.has_add = true;
  const RoutingResult want = test::run_routing(p);
  for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{0, 5}, {5, 24}}) {
    RoutingProblem part = p;
    part.tokens = end - begin;
    const auto rows = [&, first = begin](const F32& from) {
      F32 to({part.tokens, p.d});
      std::copy_n(from.data() + first * p.d, to.size(), to.data());
      return to;
    };
    for (F32& s : part.state) s = rows(s);
    part.add = rows(p.add);
    part.doutput = rows(p.doutput);
    const RoutingResult got = test::run_routing(part);
    EXPECT_TRUE(got.output == rows(want.output));
    for (int j = 0; j < p.n(); ++j) EXPECT_TRUE(got.dstate[j] == rows(want.dstate[j])) << j;
  }
}

}  // namespace
}  // namespace depthroute
