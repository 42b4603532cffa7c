// Depth routing read in two phases: against float64 loops, and what must hold bit for bit.
#include <algorithm>

#include "tests/kernels/op_test.h"
#include "tests/kernels/routing_oracle.h"

namespace depthroute {
namespace {

using test::Doubles;
using test::F32;
using test::Phases;
using test::RoutingOracle;
using test::RoutingProblem;
using test::RoutingResultOf;
using Group = std::vector<RoutingProblem>;

constexpr float kDropped = -std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

template <typename A>
Group rounded(Group group) {
  for (RoutingProblem& p : group)
    if (std::is_same_v<A, test::BF16>) p.round_to_bf16();
  return group;
}

/// Forward and backward of a group.
template <typename A>
std::vector<RoutingResultOf<A>> run(const Group& group, Phases phases = Phases::two) {
  std::vector<RoutingResultOf<A>> results(group.begin(), group.end());
  test::run_group(group, results, phases);
  return results;
}

template <typename A>
void expect_close(const Group& exact) {
  const Group group = rounded<A>(exact);
  const RoutingProblem& first = group[0];
  SCOPED_TRACE(testing::Message() << "N " << first.tokens << " D " << first.d << " n " << first.n()
                                  << " sites " << group.size() << (first.in_bf16 ? " bf16" : ""));
  const auto got = run<A>(group);
  const double output = test::activation_tolerance<A>(tolerance::kF32Forward);
  // In short rows g and h are not nearly orthogonal, and the rounding of h is a larger part of dh.
  const double backward =
      first.in_bf16 ? (first.d < 32 ? 2 : 1) * tolerance::kBf16Backward : tolerance::kF32Backward;
  std::vector<Doubles> dstate(got[0].dstate.size(), Doubles(first.tokens * first.d));
  for (size_t g = 0; g < group.size(); ++g) {
    SCOPED_TRACE(g);
    const RoutingOracle want = test::routing_oracle(group[g]);
    EXPECT_LT(test::relative_l2(got[g].output, want.output), output);
    EXPECT_LT(test::relative_l2(got[g].weights, want.weights), tolerance::kF32Statistics);
    EXPECT_LT(test::relative_l2(got[g].inv_rms, want.inv_rms), tolerance::kF32Statistics);
    EXPECT_LT(test::relative_l2(got[g].dots, want.dots), tolerance::kF32Statistics);
    // In bf16 it is the rstd of the rounded partial mix.
    EXPECT_LT(test::relative_l2(got[g].rstd, want.rstd),
              first.in_bf16 ? tolerance::kBf16Output : tolerance::kF32Statistics);
    EXPECT_LT(test::relative_l2(got[g].dnorm_weight, want.dnorm_weight), backward);
    EXPECT_LT(test::relative_l2(got[g].dquery, want.dquery), backward);
    EXPECT_LT(test::relative_l2(got[g].dlogits, want.dlogits), backward);
    for (size_t s = 0; s < dstate.size(); ++s)
      for (size_t i = 0; i < dstate[s].size(); ++i) dstate[s][i] += want.dstate[s][i];
  }
  for (size_t s = 0; s < dstate.size(); ++s)
    EXPECT_LT(test::relative_l2(got[0].dstate[s], dstate[s]), backward) << "state " << s;
}
void expect_close(const Group& group) {
  test::for_each_activation_type([&]<typename A>() { expect_close<A>(group); });
}

/// A group whose sites add to their current states, some of which have offsets and scales.
Group unlike_sites(int64_t tokens, int64_t d) {
  Group group = test::random_group(tokens, d, 6, 5, 31);
  for (RoutingProblem& p : group) p.has_add = true;
  group[0].has_query = false;
  group[1].offset = {0, kDropped, 0.5f, 0, kDropped, 0};
  group[2].scale = {1, 0.5f, 0.2f, -1, 2, 0.7f};
  group[3].has_bias = false;
  group[3].offset = {0, kDropped, 0, 0, 0, kDropped};
  for (RoutingProblem& p : group) {  // a source that no site reads may hold anything
    if (p.offset.empty()) p.offset.assign(6, 0.0f);
    p.offset[3] = kDropped;
  }
  for (RoutingProblem& p : group) p.state[3].fill(kNan);
  return group;
}

TEST(RoutingTwoPhase, MatchesFloat64Loops) {
  for (int sites : {1, 2, 3, 5, 8, 11})
    for (int n : {2, 3, 9}) expect_close(test::random_group(19, test::width(100), n, sites, 20 + n));
  for (int64_t d : {test::width(5), test::width(37)})
    for (int n : {2, 6, 57, 64}) expect_close(test::random_group(7, d, n, 3, 40 + n));
  expect_close(test::random_group(9, 1024, 8, 8, 22));
  expect_close(test::random_group(5, 2056, 5, 6, 23));
  expect_close(test::random_group(3, 4104, 5, 3, 24));
}

TEST(RoutingTwoPhase, WideRowsMatch) {
  for (int64_t d : {8200, 32768}) expect_close<F32>(test::random_group(2, d, 6, 2, 25));
}

TEST(RoutingTwoPhase, UnlikeSitesMatch) {
  for (int64_t d : {test::width(70), int64_t{1032}}) expect_close(unlike_sites(9, d));
}

// A finished state may be a source twice, and also the current state, to which nothing is added then.
TEST(RoutingTwoPhase, DuplicatesMatch) {
  Group group = test::random_group(9, test::width(37), 7, 3, 24);
  group[0].source.back() = 5;
  for (RoutingProblem& p : group) p.source[3] = p.source[1] = 2;
  group[1].source.back() = 2;
  group[2].has_add = true;
  expect_close(group);
}

// Reads that are computed again come in other groups than the first time.
TEST(RoutingTwoPhase, NoSiteDependsOnTheOthersOfItsCall) {
  test::for_each_activation_type([]<typename A>() {
    for (int64_t d : {test::width(21), int64_t{1032}, int64_t{2056}, int64_t{4104}}) {
      Group group = unlike_sites(7, d);
      const Group plain = test::random_group(7, d, 6, 6, 33);
      for (RoutingProblem p : plain) {
        p.state = group[0].state;
        p.state[3] = plain[0].state[3];
        p.source.back() = 5;
        group.push_back(p);
      }
      for (RoutingProblem& p : group) p.state[3] = plain[0].state[3];
      group = rounded<A>(group);
      const auto results = [&] { return std::vector<RoutingResultOf<A>>(group.begin(), group.end()); };
      const auto read = [&](std::vector<RoutingResultOf<A>>& r, const std::vector<size_t>& order,
                            size_t each) {
        std::vector<std::unique_ptr<test::RoutingCall<A>>> calls;
        std::vector<ops::RoutingSite> sites;
        for (size_t g : order) {
          calls.push_back(std::make_unique<test::RoutingCall<A>>(group[g], r[g], r[0].state));
          sites.push_back(calls.back()->site);
          sites.back().partial = r[g].partial;
          sites.back().partial_lse = r[g].partial_lse;
        }
        for (size_t first = 0; first < sites.size(); first += each)
          ops::routing_read_finished(test::stream(),
                                     std::span(sites).subspan(first, std::min(each, sites.size() - first)));
        for (size_t i = 0; i < order.size(); ++i)
          ops::routing_forward(test::stream(), sites[i], {}, r[order[i]].output);
      };
      const std::vector<size_t> order = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
      const std::vector<size_t> mixed = {10, 3, 7, 0, 9, 5, 6, 2, 1, 8, 4};
      auto want = results();
      read(want, order, order.size());
      for (size_t each : {1, 2, 3, 11}) {
        auto got = results();
        read(got, mixed, each);
        for (size_t g = 0; g < group.size(); ++g) {
          SCOPED_TRACE(testing::Message() << "D " << d << " site " << g << " in calls of " << each);
          EXPECT_TRUE(got[g].partial == want[g].partial);
          EXPECT_TRUE(got[g].partial_lse == want[g].partial_lse);
          EXPECT_TRUE(got[g].weights == want[g].weights);
          EXPECT_TRUE(got[g].inv_rms == want[g].inv_rms);
          EXPECT_TRUE(got[g].dots == want[g].dots);
          EXPECT_TRUE(got[g].output == want[g].output);
          EXPECT_TRUE(got[g].rstd == want[g].rstd);
        }
      }
    }
  });
}

/// One site in two phases, with its partial mix in `partial`; forward only.
template <typename A>
RoutingResultOf<A> run_site(const RoutingProblem& p, A RoutingResultOf<A>::*partial) {
  RoutingResultOf<A> r(p);
  test::RoutingCall<A> call(p, r, r.state);
  call.site.partial = (r.*partial).tensor();
  call.site.partial_lse = r.partial_lse;
  ops::routing_read_finished(test::stream(), {&call.site, 1});
  ops::routing_forward(test::stream(), call.site, p.has_add ? call.add.tensor() : Tensor{}, r.output);
  return r;
}

TEST(RoutingTwoPhase, ThePartialMixMayLieInTheOutput) {
  test::for_each_activation_type([]<typename A>() {
    for (int64_t d : {test::width(37), int64_t{1032}, int64_t{8200}}) {
      RoutingProblem p = RoutingProblem::random(9, d, 4, 3);
      p.has_add = true;
      const auto want = run_site<A>(p, &RoutingResultOf<A>::partial);
      const auto got = run_site<A>(p, &RoutingResultOf<A>::output);
      EXPECT_TRUE(got.output == want.output);
      EXPECT_TRUE(got.weights == want.weights);
    }
  });
}

TEST(RoutingTwoPhase, WithoutFinishedSourcesTheResultIsTheCurrentState) {
  test::for_each_activation_type([]<typename A>() {
    for (int n : {2, 6, 40}) {
      RoutingProblem p = RoutingProblem::random(9, test::width(37), n, 3);
      if (std::is_same_v<A, test::BF16>) p.round_to_bf16();
      p.offset.assign(n, kDropped);
      p.offset.back() = 0.3f;
      for (int j = 0; j + 1 < n; ++j) p.state[j].fill(kNan);
      const auto got = run_site<A>(p, &RoutingResultOf<A>::partial);
      RoutingProblem alone = p;
      alone.source = {n - 1};
      alone.offset = {};
      EXPECT_TRUE(got.output == test::run_routing_forward<A>(alone).output);
      for (int64_t i = 0; i < p.tokens * p.d; ++i) EXPECT_EQ(static_cast<float>(got.partial[i]), 0.0f);
      for (int64_t t = 0; t < p.tokens; ++t) {
        EXPECT_EQ(got.partial_lse[t], kDropped);
        for (int j = 0; j < n; ++j) EXPECT_EQ(got.weights[t * n + j], j + 1 == n ? 1.0f : 0.0f);
      }
    }
  });
}

TEST(RoutingTwoPhase, ADroppedCurrentStateIsAddedToButNotRead) {
  test::for_each_activation_type([]<typename A>() {
    RoutingProblem p = RoutingProblem::random(9, test::width(37), 4, 3);
    p.has_add = true;
    p.offset = {0, 0.2f, 0, kDropped};
    p.state.back().fill(1.0f);
    const auto want = run_site<A>(p, &RoutingResultOf<A>::partial);
    RoutingProblem others = p;
    others.source = {0, 1, 2};
    others.offset = {0, 0.2f, 0};
    others.has_add = others.has_bias = false;
    const A alone = test::run_routing_forward<A>(others).output;
    EXPECT_LE(test::relative_l2(want.output, alone.doubles()),
              test::activation_tolerance<A>(tolerance::kF32Forward));
    const A add = test::as<A>(p.add);
    for (int64_t i = 0; i < add.size(); ++i)
      ASSERT_EQ(static_cast<float>(want.state[3][i]),
                static_cast<float>(A({1}, 1.0f + static_cast<float>(add[i]))[0]));
    p.state.back().fill(kNan);
    EXPECT_TRUE(run_site<A>(p, &RoutingResultOf<A>::partial).output == want.output);
  });
}

// Logits far beyond what exp() can take.
TEST(RoutingTwoPhase, LargeLogitsMatchOnePhase) {
  for (double size : {30.0, 1000.0}) {
    Group group = test::random_group(33, test::width(100), 5, 3, 26);
    for (RoutingProblem& p : group) p.query = test::random_f32({p.d}, 7, size / std::sqrt(double(p.d)));
    const auto got = run<F32>(group), want = run<F32>(group, Phases::one);
    for (size_t g = 0; g < group.size(); ++g) {
      // Logits are rounded to float32, of which weights near 1/2 feel the absolute error.
      EXPECT_LT(test::relative_l2(got[g].output, want[g].output.doubles()), 1e-6 + 2e-7 * size);
      EXPECT_LT(test::relative_l2(got[g].weights, want[g].weights.doubles()), 1e-6 + 2e-7 * size);
    }
  }
}

TEST(RoutingTwoPhase, NanReachesTheOutput) {
  for (int source : {1, 2}) {
    RoutingProblem p = RoutingProblem::random(4, test::width(21), 3, 8);
    p.state[source][2 * p.d + p.d - 1] = kNan;
    const auto got = run_site<F32>(p, &RoutingResultOf<F32>::partial);
    for (int64_t t = 0; t < p.tokens; ++t)
      for (int64_t i = 0; i < p.d; ++i) EXPECT_EQ(std::isnan(got.output[t * p.d + i]), t == 2);
  }
}

struct Error {
  double rms, greatest;
};
/// Of the values, relative to the root mean square of what they should be.
template <typename A>
Error error_of(const A& got, const Doubles& want) {
  double squares = 0, wanted = 0, greatest = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const double difference = static_cast<double>(got[static_cast<int64_t>(i)]) - want[i];
    squares += difference * difference;
    wanted += want[i] * want[i];
    greatest = std::max(greatest, std::abs(difference));
  }
  return {std::sqrt(squares / wanted), greatest / std::sqrt(wanted / static_cast<double>(want.size()))};
}

// What the second rounding costs, as kernels/ops/ops.h states it.
TEST(RoutingTwoPhase, ErrorIsThatOfOneMoreRounding) {
  test::for_each_activation_type([]<typename A>() {
    const Group group = rounded<A>(test::random_group(33, 1024, 6, 2, 28));
    const auto two = run<A>(group), one = run<A>(group, Phases::one);
    const RoutingOracle want = test::routing_oracle(group[0]);
    const Error error = error_of(two[0].output, want.output), before = error_of(one[0].output, want.output);
    EXPECT_LT(error.rms, 1.5 * before.rms);
    EXPECT_LT(error.greatest, 2 * before.greatest);
  });
}

TEST(RoutingTwoPhaseDeathTest, WhatTheFirstPhaseCannotDo) {
  const RoutingProblem p = RoutingProblem::random(4, 8, 3, 8);
  test::RoutingResult r(p);
  test::RoutingCall<F32> call(p, r, r.state);
  ops::RoutingSite site = call.site;
  const auto read = [&] { ops::routing_read_finished(test::stream(), {&site, 1}); };
  EXPECT_DEATH(read(), "partial");
  site.partial = r.partial;
  EXPECT_DEATH(read(), "partial_lse");
  site.partial_lse = r.partial_lse;
  site.given = r.weights;
  EXPECT_DEATH(read(), "one phase");
  site.given = {};
  const F32 row = test::random_f32({1, 8}, 3);
  call.sources[1] = row;
  EXPECT_DEATH(read(), "one phase");
  call.sources[1] = call.sources[2];
  EXPECT_DEATH(ops::routing_forward(test::stream(), site, call.add, r.output), "first phase has read");
  site.sources = std::span(call.sources).first(1);
  EXPECT_DEATH(read(), "");
}

TEST(RoutingTwoPhase, PaysWhereItMovesLess) {
  for (int64_t n : {1, 2, 3}) EXPECT_FALSE(ops::routing_read_finished_pays(n, 8));
  for (int64_t n : {4, 5, 8, 64}) EXPECT_TRUE(ops::routing_read_finished_pays(n, 8));
  for (int64_t n : {1, 2, 9, 64}) EXPECT_FALSE(ops::routing_read_finished_pays(n, 1));
  EXPECT_FALSE(ops::routing_read_finished_pays(5, 2));
  EXPECT_TRUE(ops::routing_read_finished_pays(6, 2));
}

TEST(RoutingTwoPhase, DoesNotDependOnThreads) {
  const Group group = unlike_sites(50, test::width(72));
  test::expect_independent_of_threads([&] {
    std::vector<F32> all;
    for (const auto& r : run<F32>(group)) {
      for (const F32& x : r.all()) all.push_back(x);
      all.push_back(r.partial);
      all.push_back(r.partial_lse);
    }
    return all;
  });
}

}  // namespace
}  // namespace depthroute
