// Depth routing against float64 loops and finite differences, over every kind of argument a site can have.
#include <cmath>
#include <functional>
#include <limits>
#include <utility>

#include "tests/kernels/op_test.h"
#include "tests/kernels/routing_oracle.h"

namespace depthroute {
namespace {

using test::Doubles;
using test::F32;
using test::RoutingOracle;
using test::RoutingProblem;
using test::RoutingResult;
using test::RoutingValues;

constexpr float kDropped = -std::numeric_limits<float>::infinity();

/// Relative L2, but absolute if the gradient cancels completely (a state that is both sources of a site).
template <typename A>
void expect_gradient(const A& got, const Doubles& want, const char* name,
                     double allowed = tolerance::kF32Backward) {
  const bool cancels = test::relative_l2(want, Doubles(want.size())) < 1e-9;
  EXPECT_LT(test::relative_l2(got, cancels ? Doubles(want.size()) : want), allowed) << name;
}

/// Compares what belongs to one site: everything but the states' gradients.
void expect_site(const RoutingProblem& p, const RoutingResult& got, const RoutingOracle& want) {
  constexpr double kStatistics = 1e-6;  // float32 lanes joined in float64
  EXPECT_LT(test::relative_l2(got.output, want.output), tolerance::kF32Forward);
  EXPECT_LT(test::relative_l2(got.weights, want.weights), tolerance::kF32Statistics);
  EXPECT_LT(test::relative_l2(got.inv_rms, want.inv_rms), kStatistics);
  EXPECT_LT(test::relative_l2(got.dots, want.dots), kStatistics);
  EXPECT_LT(test::relative_l2(got.rstd, want.rstd), kStatistics);
  expect_gradient(got.dnorm_weight, want.dnorm_weight, "norm_weight");
  // One token and two sources leave a single product dh . (V_0 - V_1), which cancels by chance, here to 1e-3.
  const double allowed = (p.tokens == 1 ? 10 : 1) * tolerance::kF32Backward;
  expect_gradient(got.dquery, want.dquery, "query", allowed);
  expect_gradient(got.dkey_norm, want.dkey_norm, "key_norm", allowed);
  expect_gradient(got.dlogits, want.dlogits, "logits", allowed);
  // A single number, a sum over tokens of terms of both signs: its error is that of the terms.
  EXPECT_NEAR(got.dbias[0], want.dbias[0], 1e-5 * std::sqrt(static_cast<double>(p.tokens * p.d)));
}

void expect_close(const RoutingProblem& p) {
  const RoutingResult got = test::run_routing(p);
  const RoutingOracle want = test::routing_oracle(p);
  expect_site(p, got, want);
  for (size_t s = 0; s < got.dstate.size(); ++s) expect_gradient(got.dstate[s], want.dstate[s], "state");
}

/// The last source is also an earlier one (a boundary's attention site, `cumulative`).
void make_duplicate(RoutingProblem& p) {
  if (p.n() < 2) return;
  p.source[p.n() - 1] = p.n() - 2;
  p.state.pop_back();
}

/// Offsets, some of them -inf, and scales.
void intervene(RoutingProblem& p) {
  const F32 values = test::random_f32({2 * p.n()}, 5);
  for (int j = 0; j < p.n(); ++j) {
    p.offset.push_back(j % 4 == 1 && j + 1 < p.n() ? kDropped : values[j]);
    p.scale.push_back(1.0f + 0.3f * values[p.n() + j]);
  }
}

/// Calls check(problem) for sites of every odd shape.
void for_all_shapes(const std::function<void(RoutingProblem)>& check) {
  const auto site = [&](int64_t tokens, int64_t d, int n) {
    SCOPED_TRACE(testing::Message() << "N " << tokens << " D " << d << " n " << n);
    check(RoutingProblem::random(tokens, d, n, 100 + tokens + d + n));
  };
  for (int64_t tokens : {1, 7, 33})
    for (int64_t d : {test::width(5), test::width(32), test::width(100)})
      for (int n : {1, 2, 3, 9, 57, 64}) site(tokens, d, n);
  for (int n : {1, 2, 9, 64}) site(7, 1024, n);
  site(3, 1032, 6);  // just more than one warp holds on a GPU
}

TEST(Routing, MatchesFloat64Loops) {
  for_all_shapes(expect_close);
  expect_close(RoutingProblem::random(33, 1024, 9, 5));
  expect_close(RoutingProblem::random(5, test::width(5003), 4, 6));
}

// The widest rows: blocks of 32 warps on a GPU.
TEST(Routing, WideRowsMatch) {
  for (int64_t d : {8200, 16392, 32768}) {
    SCOPED_TRACE(d);
    RoutingProblem p = RoutingProblem::random(3, d, 6, 9);
    p.has_add = true;
    expect_close(p);
  }
}

TEST(Routing, MatchesWhereTheMixIsTheSource) {
  for (bool has_query : {true, false}) {
    RoutingProblem p = RoutingProblem::random(40, test::width(37), 1, 6);
    p.has_query = has_query;
    p.mix_is_source = true;
    p.has_add = true;
    expect_close(p);
  }
}

// h comes back from the output, which such a weight multiplies.
TEST(Routing, MatchesWhereANormWeightIsZero) {
  test::for_each_activation_type([]<typename A>() {
    RoutingProblem p = RoutingProblem::random(40, test::width(64), 4, 6);
    if (!std::is_same_v<A, F32>) p.round_to_bf16();
    const float weights[] = {0.0F, -0.0F, 1e-40F, -1e-12F};
    for (int64_t i = 0; i < 4; ++i) p.norm_weight[5 * i] = weights[i];
    const auto got = test::run_routing<A>(p);
    const RoutingOracle want = test::routing_oracle(p);
    const double allowed = std::is_same_v<A, F32> ? tolerance::kF32Backward : tolerance::kBf16Backward;
    expect_gradient(got.dnorm_weight, want.dnorm_weight, "norm_weight", allowed);
    expect_gradient(got.dquery, want.dquery, "query", allowed);
    for (size_t s = 0; s < got.dstate.size(); ++s)
      expect_gradient(got.dstate[s], want.dstate[s], "state", allowed);
    for (int64_t i = 0; i < 4; ++i) {
      for (int64_t t = 0; t < p.tokens; ++t)
        EXPECT_NEAR(static_cast<float>(got.output[t * p.d + 5 * i]), 0, 1e-10);
      Doubles terms(1);
      for (int64_t t = 0; t < p.tokens; ++t) terms[0] += std::abs(p.doutput[t * p.d + 5 * i]);
      EXPECT_NEAR(got.dnorm_weight[5 * i], want.dnorm_weight[5 * i], allowed * terms[0]);
    }
  });
}

TEST(Routing, MatchesWithAddAndDuplicate) {
  for_all_shapes([](RoutingProblem p) {
    p.has_add = true;
    make_duplicate(p);
    expect_close(p);
  });
}

TEST(Routing, MatchesWithInterventions) {
  for_all_shapes([](RoutingProblem p) {
    p.has_add = true;
    intervene(p);
    expect_close(p);
  });
}

TEST(Routing, MatchesWithoutQuery) {
  for_all_shapes([](RoutingProblem p) {
    p.has_query = false;
    intervene(p);
    expect_close(p);
    p.has_bias = false;
    p.offset.clear();
    p.scale.clear();
    expect_close(p);
  });
}

TEST(Routing, GradientsMatchFiniteDifferences) {
  RoutingProblem p = RoutingProblem::random(2, test::width(5), 5, 7);
  p.has_add = true;
  p.source[4] = 3;
  p.state.pop_back();
  p.offset = {0.3f, kDropped, -0.2f, 0.1f, 0.5f};
  p.scale = {1.0f, 1.0f, 0.7f, 1.2f, 1.0f};
  const RoutingResult got = test::run_routing(p);
  RoutingValues in(p);
  const Doubles doutput = p.doutput.doubles();
  const auto loss = [&] { return test::inner(test::routing_oracle(p, in).output, doutput); };
  const auto difference = [&](Doubles& x) { return test::finite_difference(x, loss); };
  for (size_t s = 0; s < in.state.size(); ++s)
    EXPECT_LT(test::relative_l2(got.dstate[s], difference(in.state[s])), tolerance::kFiniteDifference) << s;
  EXPECT_LT(test::relative_l2(got.dquery, difference(in.query)), tolerance::kFiniteDifference);
  EXPECT_LT(test::relative_l2(got.dkey_norm, difference(in.key_norm)), tolerance::kFiniteDifference);
  EXPECT_LT(test::relative_l2(got.dbias, difference(in.bias)), tolerance::kFiniteDifference);
  EXPECT_LT(test::relative_l2(got.dnorm_weight, difference(in.norm_weight)), tolerance::kFiniteDifference);
}

TEST(Routing, AddsToTheLastSourceInPlace) {
  RoutingProblem p = RoutingProblem::random(9, test::width(37), 3, 8);
  p.has_add = true;
  const RoutingResult got = test::run_routing(p);
  EXPECT_TRUE(got.state[0] == p.state[0]);
  EXPECT_TRUE(got.state[1] == p.state[1]);
  for (int64_t i = 0; i < p.add.size(); ++i) EXPECT_EQ(got.state[2][i], p.state[2][i] + p.add[i]);
}

TEST(Routing, GradientsAccumulate) {
  const RoutingProblem p = RoutingProblem::random(40, test::width(21), 4, 9);
  const RoutingResult once = test::run_routing(p);
  RoutingResult twice = once;
  test::run_routing(p, twice);
  const auto expect_double = [](const F32& got, const F32& single) {
    Doubles want = single.doubles();
    for (double& x : want) x *= 2;
    EXPECT_LT(test::relative_l2(got, want), tolerance::kF32Backward);
  };
  for (int j = 0; j < p.n(); ++j) expect_double(twice.dstate[j], once.dstate[j]);
  expect_double(twice.dquery, once.dquery);
  expect_double(twice.dkey_norm, once.dkey_norm);
  expect_double(twice.dbias, once.dbias);
  expect_double(twice.dnorm_weight, once.dnorm_weight);
}

// If the sources are nearly equal (as states of one residual stream often are), the query's gradient is a
// difference of nearly equal terms. It must still be right: the relative error is a few roundings of the
// terms, 2^-24 / spread.
TEST(Routing, QueryGradientSurvivesCancellation) {
  for (double spread : {1e-1, 1e-2, 1e-3}) {
    RoutingProblem p = RoutingProblem::random(33, 256, 5, 11);
    for (int j = 1; j < p.n(); ++j) {
      const F32 noise = test::random_f32({p.tokens, p.d}, 60 + j, spread);
      for (int64_t i = 0; i < noise.size(); ++i) p.state[j][i] = p.state[0][i] + noise[i];
    }
    const RoutingResult got = test::run_routing(p);
    const RoutingOracle want = test::routing_oracle(p);
    const double allowed = 1e-6 + 1e-7 / spread;
    EXPECT_LT(test::relative_l2(got.dquery, want.dquery), allowed) << spread;
    EXPECT_LT(test::relative_l2(got.dkey_norm, want.dkey_norm), allowed) << spread;
    // Terms that cancel keep their own errors: that of h, which is found in a float32 output; on cuda also those of
    // sums over a row.
    double terms = 0;
    for (int64_t t = 0; t < p.tokens; ++t) terms += std::abs(want.dlogits[t * 5 + 4]);
    const double kept = (test::on_cuda() ? allowed : std::numeric_limits<float>::epsilon() / 2) * terms;
    EXPECT_NEAR(got.dbias[0], want.dbias[0], allowed * std::abs(want.dbias[0]) + kept) << spread;
  }
}

void expect_group_close(const std::vector<RoutingProblem>& group) {
  std::vector<RoutingResult> got(group.begin(), group.end());
  test::run_group(group, got);
  std::vector<Doubles> dstate(got[0].dstate.size(), Doubles(group[0].tokens * group[0].d));
  for (size_t g = 0; g < group.size(); ++g) {
    SCOPED_TRACE(testing::Message() << "site " << g << " of " << group.size());
    const RoutingOracle want = test::routing_oracle(group[g]);
    expect_site(group[g], got[g], want);
    for (size_t s = 0; s < dstate.size(); ++s)
      for (size_t i = 0; i < dstate[s].size(); ++i) dstate[s][i] += want.dstate[s][i];
  }
  for (size_t s = 0; s < dstate.size(); ++s) expect_gradient(got[0].dstate[s], dstate[s], "state");
}

TEST(Routing, GroupsMatchTheSumOfTheirSites) {
  for (int sites : {1, 2, 3, 4, 5, 8, 11})
    for (int n : {2, 3, 9}) expect_group_close(test::random_group(19, test::width(100), n, sites, 20));
  expect_group_close(test::random_group(2, test::width(21), 64, 5, 21));
  expect_group_close(test::random_group(5, 1024, 9, 8, 22));
  expect_group_close(test::random_group(2, 4104, 5, 5, 23));
}

// `cumulative`: at a boundary, the first site's last source is the block that was just completed, and a state
// can be two of the shared sources.
TEST(Routing, GroupsWithDuplicatesMatch) {
  for (int64_t d : {test::width(37), int64_t{1024}}) {
    std::vector<RoutingProblem> group = test::random_group(9, d, 7, 3, 24);
    group[0].source.back() = 5;
    for (RoutingProblem& p : group) p.source[3] = p.source[1] = 2;
    group[1].source.back() = 2;
    expect_group_close(group);
  }
}

TEST(Routing, GroupsOfUnlikeSitesMatch) {
  std::vector<RoutingProblem> group = test::random_group(9, test::width(70), 6, 4, 25);
  group[0].has_query = false;
  group[1].offset = {0, kDropped, 0.5f, 0, kDropped, 0};
  group[2].scale = {1, 0.5f, 0, -1, 2, 0.7f};
  group[3].has_bias = false;
  group[3].offset = {0, kDropped, 0, 0, 0, kDropped};
  for (RoutingProblem& p : group) {  // a source that no site reads may hold anything
    if (p.offset.empty()) p.offset.assign(6, 0.0f);
    p.offset[3] = kDropped;
  }
  for (RoutingProblem& p : group) p.state[3].fill(std::numeric_limits<float>::quiet_NaN());
  expect_group_close(group);
}

// One row for all tokens, or a few rows in turn, give the same as copies of them.
TEST(Routing, ReplacedSourcesAreRowsInTurn) {
  const int64_t tokens = 12;
  for (int64_t d : {test::width(37), int64_t{1032}})
    for (bool adds : {false, true}) {
      RoutingProblem p = RoutingProblem::random(tokens, d, 6, 26);
      p.has_add = adds;
      for (const auto& [source, rows] : {std::pair<int, int64_t>{0, 1}, {2, 4}, {3, 6}, {5, 3}}) {
        if (adds && source == 5) continue;
        p.state[source] = test::random_f32({rows, d}, 30 + source);
      }
      RoutingProblem copied = p;
      for (int j = 0; j < p.n(); ++j) {
        copied.state[j] = F32({tokens, d});
        for (int64_t i = 0; i < tokens * d; ++i) copied.state[j][i] = p.state[j][i % p.state[j].size()];
      }
      const RoutingResult got = test::run_routing_forward(p), want = test::run_routing_forward(copied);
      EXPECT_TRUE(got.output == want.output);
      EXPECT_TRUE(got.weights == want.weights);
      EXPECT_TRUE(got.inv_rms == want.inv_rms);
      EXPECT_TRUE(got.dots == want.dots);
      EXPECT_TRUE(got.rstd == want.rstd);
      EXPECT_LT(test::relative_l2(got.output, test::routing_oracle(copied).output), tolerance::kF32Forward);
    }
}

TEST(Routing, DoesNotDependOnThreads) {
  RoutingProblem p = RoutingProblem::random(150, 72, 5, 12);
  p.has_add = true;
  make_duplicate(p);
  intervene(p);
  test::expect_independent_of_threads([&] { return test::run_routing(p).all(); });
}

}  // namespace
}  // namespace depthroute
