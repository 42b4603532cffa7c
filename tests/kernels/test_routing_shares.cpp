// What each source contributes to a read, against float64 loops.
#include <algorithm>

#include "tests/kernels/op_test.h"
#include "tests/kernels/routing_oracle.h"

namespace depthroute {
namespace {

using test::Doubles;
using test::F32;
using test::RoutingProblem;

constexpr float kDropped = -std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Shares {
  F32 norms, projections, cosines;
};

/// Runs forward, with `given` if it has values, and takes the shares. `states` become those after `add`.
template <typename A>
Shares run(const RoutingProblem& p, const F32& given, test::RoutingResultOf<A>& result) {
  test::RoutingCall<A> call(p, result, result.state);
  call.site.given = given.size() ? given.tensor() : Tensor{};
  call.site.output = call.site.inverse_norm = call.site.projection = {};
  ops::routing_forward(test::stream(), call.site, p.has_add ? call.add.tensor() : Tensor{}, result.output);
  Shares shares{F32({p.tokens, p.n()}), F32({p.tokens, p.n()}), F32({p.tokens, p.n()})};
  ops::routing_shares(test::stream(), call.site, shares.norms, shares.projections, shares.cosines);
  return shares;
}
F32 softmax() { return F32({0, 0}); }

double ratio(double a, double b) { return b == 0 ? 0 : a / b; }

/// Expects the definitions in float64 of the weights that forward wrote.
template <typename A>
void expect_close(const RoutingProblem& p, const F32& given = softmax()) {
  test::RoutingResultOf<A> result(p);
  const Shares got = run<A>(p, given, result);
  const int n = p.n();
  std::vector<Doubles> values;
  for (const A& state : result.state) values.push_back(state.doubles());
  for (int64_t t = 0; t < p.tokens; ++t) {
    const auto weight = [&](int j) {
      return (p.scale.empty() ? 1.0 : p.scale[j]) * static_cast<double>(result.weights[t * n + j]);
    };
    const auto reads = [&](int j) {
      return given.size() ? result.weights[t * n + j] != 0 : p.offset.empty() || p.offset[j] != kDropped;
    };
    const auto value = [&](int j, int64_t i) {
      const Doubles& v = values[p.source[j]];
      return reads(j) ? v[(t * p.d + i) % v.size()] : 0.0;
    };
    const auto product = [&](int j, int k) {
      double sum = 0;
      for (int64_t i = 0; i < p.d; ++i) sum += value(j, i) * value(k, i);
      return sum;
    };
    double total = 0, mix_squares = 0;
    Doubles h(p.d);
    for (int j = 0; j < n; ++j) {
      total += std::abs(weight(j)) * std::sqrt(product(j, j));
      for (int64_t i = 0; i < p.d; ++i) h[i] += weight(j) * value(j, i);
    }
    for (double x : h) mix_squares += x * x;
    for (int j = 0; j < n; ++j) {
      double with_mix = 0;
      for (int64_t i = 0; i < p.d; ++i) with_mix += weight(j) * value(j, i) * h[i];
      const double norm = std::sqrt(product(j, j));
      const std::string where = "token " + std::to_string(t) + " source " + std::to_string(j);
      const int64_t at = t * n + j;
      EXPECT_NEAR(got.norms[at], ratio(std::abs(weight(j)) * norm, total), 2e-6) << where;
      // Terms of both signs may add up to a small h.
      const double terms = ratio(std::abs(weight(j)) * norm, std::sqrt(mix_squares));
      EXPECT_NEAR(got.projections[at], ratio(with_mix, mix_squares), 3e-6 * (1 + terms * (1 + terms)))
          << where;
      EXPECT_NEAR(got.cosines[at], ratio(product(j, n - 1), norm * std::sqrt(product(n - 1, n - 1))), 2e-6)
          << where;
    }
  }
}

TEST(RoutingShares, MatchFloat64) {
  test::for_each_activation_type([]<typename A>() {
    for (int64_t d : {test::width(5), test::width(100), int64_t{1024}, int64_t{1032}, int64_t{8200}})
      for (int n : {1, 2, 3, 9, 40}) {
        SCOPED_TRACE(testing::Message() << "D " << d << " n " << n);
        RoutingProblem p = RoutingProblem::random(5, d, n, 3 * n + d);
        p.has_add = true;
        expect_close<A>(p);
      }
    expect_close<A>(RoutingProblem::random(3, test::width(33), 64, 1));
    if (!test::on_cuda()) expect_close<A>(RoutingProblem::random(2, 5003, 4, 2));
  });
}

TEST(RoutingShares, MatchWithInterventions) {
  test::for_each_activation_type([]<typename A>() {
    for (int64_t d : {test::width(37), int64_t{1032}}) {
      RoutingProblem p = RoutingProblem::random(12, d, 6, 5);
      p.offset = {0, kDropped, 0.5f, 0, 0, 0};
      p.scale = {1, 0.5f, 0.3f, -1, 0, 0.7f};
      p.state[1].fill(kNan);
      p.state[2] = test::random_f32({4, d}, 6);
      p.state[5] = test::random_f32({1, d}, 7);
      expect_close<A>(p);
      p.offset = {0, kDropped, 0, 0, 0, kDropped};  // no current state: no cosines
      expect_close<A>(p);
      F32 given = test::random_f32({12, 6}, 8);
      for (int64_t t = 0; t < 12; ++t) given[t * 6 + 1] = given[t * 6 + t % 6] = 0;
      expect_close<A>(p, given);
    }
  });
}

TEST(RoutingShares, EqualSourcesShareAndZeroSourcesHaveNothing) {
  test::for_each_activation_type([]<typename A>() {
    for (int64_t d : {test::width(37), int64_t{1032}}) {
      RoutingProblem p = RoutingProblem::random(4, d, 4, 9);
      p.state[0].fill(0.0f);
      p.source = {0, 3, 2, 3};
      F32 given({1, 4}, 0.25f);
      test::RoutingResultOf<A> result(p);
      const Shares got = run<A>(p, given, result);
      for (int64_t t = 0; t < p.tokens; ++t) {
        EXPECT_EQ(got.norms[t * 4], 0.0f);
        EXPECT_EQ(got.projections[t * 4], 0.0f);
        EXPECT_EQ(got.cosines[t * 4], 0.0f);
        EXPECT_EQ(got.norms[t * 4 + 1], got.norms[t * 4 + 3]);
        EXPECT_EQ(got.projections[t * 4 + 1], got.projections[t * 4 + 3]);
        EXPECT_NEAR(got.cosines[t * 4 + 1], 1, 1e-6);
        EXPECT_EQ(got.cosines[t * 4 + 3], 1.0f);
        double norms = 0, projections = 0;
        for (int j = 0; j < 4; ++j) {
          norms += got.norms[t * 4 + j];
          projections += got.projections[t * 4 + j];
        }
        EXPECT_NEAR(norms, 1, 1e-6);
        EXPECT_NEAR(projections, 1, 1e-5);
      }
      expect_close<A>(p, given);
    }
  });
}

TEST(RoutingShares, AllAreZeroWhereNothingIsReadAndNaNStays) {
  RoutingProblem p = RoutingProblem::random(3, test::width(37), 2, 10);
  std::fill_n(p.state[0].data(), p.d, 0.0f);
  std::fill_n(p.state[1].data(), p.d, 0.0f);
  p.state[0][p.d + 1] = kNan;
  test::RoutingResult result(p);
  const Shares got = run<F32>(p, F32({1, 2}, 0.5f), result);
  for (int j = 0; j < 2; ++j) {
    EXPECT_EQ(got.norms[j], 0.0f);
    EXPECT_EQ(got.projections[j], 0.0f);
    EXPECT_EQ(got.cosines[j], 0.0f);
    EXPECT_TRUE(std::isnan(got.norms[2 + j]));
    EXPECT_TRUE(std::isnan(got.projections[2 + j]));
    EXPECT_EQ(std::isnan(got.cosines[2 + j]), j == 0);
    EXPECT_TRUE(std::isfinite(got.norms[4 + j]));
  }
}

TEST(RoutingShares, DoNotDependOnThreads) {
  const RoutingProblem p = RoutingProblem::random(150, 72, 5, 12);
  test::expect_independent_of_threads([&] {
    test::RoutingResult result(p);
    const Shares got = run<F32>(p, softmax(), result);
    return std::vector{got.norms, got.projections, got.cosines};
  });
}

}  // namespace
}  // namespace depthroute
