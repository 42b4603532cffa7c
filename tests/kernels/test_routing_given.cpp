// Depth routing with weights that are given instead of the softmax.
#include <algorithm>
#include <utility>

#include "tests/kernels/op_test.h"
#include "tests/kernels/routing_oracle.h"

namespace depthroute {
namespace {

using test::Doubles;
using test::F32;
using test::RoutingProblem;

constexpr float kDropped = -std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

/// Runs forward with `given`, or without where it has no values.
template <typename A>
test::RoutingResultOf<A> run(const RoutingProblem& p, const F32& given) {
  test::RoutingResultOf<A> result(p);
  test::RoutingCall<A> call(p, result, result.state);
  call.site.given = given.size() ? given.tensor() : Tensor{};
  call.site.projection = {};
  ops::routing_forward(test::stream(), call.site, p.has_add ? call.add.tensor() : Tensor{}, result.output);
  return result;
}
F32 softmax() { return F32({0, 0}); }

/// RMSNorm(sum_j scale_j given_j V_j) in float64, from the states as they are after `add`.
template <typename A>
Doubles oracle(const RoutingProblem& p, const std::vector<A>& states, const F32& given) {
  const int n = p.n();
  const int64_t rows = given.size() / n;
  std::vector<Doubles> values;
  for (const A& state : states) values.push_back(state.doubles());
  Doubles output(p.tokens * p.d);
  for (int64_t t = 0; t < p.tokens; ++t) {
    double squares = 0;
    for (int64_t i = 0; i < p.d; ++i) {
      double& h = output[t * p.d + i];
      for (int j = 0; j < n; ++j) {
        const double weight = given[t % rows * n + j];
        const Doubles& v = values[p.source[j]];
        if (weight != 0) h += (p.scale.empty() ? 1.0 : p.scale[j]) * weight * v[(t * p.d + i) % v.size()];
      }
      squares += h * h;
    }
    for (int64_t i = 0; i < p.d; ++i)
      output[t * p.d + i] *= p.norm_weight[i] / std::sqrt(squares / static_cast<double>(p.d) + p.norm_eps);
  }
  return output;
}

/// A site with an addend, offsets and scales; with enough sources, also a state that is two sources, a
/// dropped source and a replaced one.
RoutingProblem problem(int64_t tokens, int64_t d, int n) {
  RoutingProblem p = RoutingProblem::random(tokens, d, n, 7 * n + d);
  p.has_add = true;
  p.scale.assign(n, 0.8f);
  p.offset.assign(n, 0.25f);
  if (n < 4) return p;
  p.source[n - 1] = n - 2;
  p.state.pop_back();
  p.offset[1] = kDropped;
  p.state[1].fill(kNan);
  p.state[0] = test::random_f32({3, d}, 5);
  return p;
}

struct Size {
  int64_t d;
  int n;
};
std::vector<Size> sizes() {
  std::vector<Size> result;
  for (int64_t d : {test::width(5), test::width(100), int64_t{1024}, int64_t{1032}, int64_t{8200}})
    for (int n : {1, 2, 9, 40}) result.push_back({d, n});
  result.push_back({test::width(33), 64});
  return result;
}

TEST(RoutingGiven, TheCleanWeightsReproduceTheCleanRun) {
  test::for_each_activation_type([]<typename A>() {
    for (const auto& [d, n] : sizes()) {
      SCOPED_TRACE(testing::Message() << "D " << d << " n " << n);
      const RoutingProblem p = problem(6, d, n);
      const auto clean = run<A>(p, softmax()), got = run<A>(p, clean.weights);
      EXPECT_TRUE(got.weights == clean.weights);
      EXPECT_TRUE(got.inv_rms == F32({p.tokens, n}, 0.0f));
      EXPECT_TRUE(got.dots == F32({p.tokens, n}, 0.0f));
      for (size_t s = 0; s < got.state.size(); ++s) EXPECT_TRUE(got.state[s] == clean.state[s]) << s;
      if (!test::on_cuda()) {
        EXPECT_TRUE(got.output == clean.output);
        EXPECT_TRUE(got.rstd == clean.rstd);
      }
      // In bf16, a value on the edge of two may round the other way.
      const double allowed = test::activation_tolerance<A>(tolerance::kF32Forward);
      EXPECT_LE(test::relative_l2(got.output, clean.output.doubles()), allowed);
      EXPECT_LE(test::relative_l2(got.rstd, clean.rstd.doubles()), tolerance::kF32Forward);
    }
  });
}

// Weights of any sign that add up to anything; query, bias and offsets do not matter.
TEST(RoutingGiven, RowsOfWeightsAreTakenInTurn) {
  test::for_each_activation_type([]<typename A>() {
    constexpr int64_t kTokens = 12;
    for (const auto& [d, n] : sizes())
      for (int64_t rows : {1, 4, 12}) {
        SCOPED_TRACE(testing::Message() << "D " << d << " n " << n << " R " << rows);
        RoutingProblem p = problem(kTokens, d, n);
        if (n >= 4) p.state[1] = test::random_f32({kTokens, d}, 6);  // its offset does not drop it here
        const F32 given = test::random_f32({rows, n}, 8 + rows);
        F32 copied({kTokens, n});
        for (int64_t i = 0; i < copied.size(); ++i) copied[i] = given[i % given.size()];
        const auto got = run<A>(p, given), want = run<A>(p, copied);
        EXPECT_TRUE(got.weights == copied);
        EXPECT_TRUE(got.output == want.output);
        EXPECT_TRUE(got.rstd == want.rstd);
        EXPECT_LE(test::relative_l2(got.output, oracle(p, got.state, given)),
                  test::activation_tolerance<A>(tolerance::kF32Forward));
        p.has_query = p.has_bias = false;
        p.offset.clear();
        EXPECT_TRUE(run<A>(p, given).output == got.output);
      }
  });
}

// In every token another source has weight 0 and holds NaN: also the current state, with `add` and without.
TEST(RoutingGiven, ASourceOfWeightZeroIsNotRead) {
  test::for_each_activation_type([]<typename A>() {
    for (int64_t d : {test::width(21), int64_t{1032}, int64_t{8200}})
      for (bool adds : {false, true}) {
        RoutingProblem p = RoutingProblem::random(10, d, 5, 3);
        p.has_add = adds;
        F32 given = test::random_f32({p.tokens, 5}, 4, 0.1, 0.2);
        for (int64_t t = 0; t < p.tokens; ++t) {
          const int64_t j = t % 5;
          given[t * 5 + j] = t < 5 ? 0.0f : -0.0f;
          std::fill_n(p.state[j].data() + t * d, d, kNan);
        }
        const auto got = run<A>(p, given);
        EXPECT_TRUE(got.weights == given);
        EXPECT_LE(test::relative_l2(got.output, oracle(p, got.state, given)),
                  test::activation_tolerance<A>(tolerance::kF32Forward));
        // Where it has a weight, NaN reaches the output.
        for (int64_t t = 0; t < p.tokens; ++t) given[t * 5 + t % 5] = 1e-30f;
        const auto with_nan = run<A>(p, given);
        for (float x : with_nan.output.span()) ASSERT_TRUE(std::isnan(x));
      }
  });
}

TEST(RoutingGiven, EverySourceMayBeReplacedIncludingTheCurrentState) {
  for (int64_t rows : {1, 3}) {
    RoutingProblem p = RoutingProblem::random(6, test::width(37), 3, 11);
    for (F32& state : p.state) state = test::random_f32({rows, p.d}, 12 + rows);
    const F32 given = test::random_f32({2, 3}, 13);
    const auto got = run<F32>(p, given);
    EXPECT_LE(test::relative_l2(got.output, oracle(p, p.state, given)), tolerance::kF32Forward);
  }
}

TEST(RoutingGiven, TheWeightsMayBeTheOutputsOwn) {
  for (int64_t d : {test::width(37), int64_t{1032}}) {
    const RoutingProblem p = problem(9, d, 9);
    const F32 given = run<F32>(p, softmax()).weights;
    const auto want = run<F32>(p, given);
    test::RoutingResult got(p);
    got.weights = given;
    test::RoutingCall<F32> call(p, got, got.state);
    call.site.given = call.site.weights;
    ops::routing_forward(test::stream(), call.site, call.add, got.output);
    EXPECT_TRUE(got.weights == given);
    EXPECT_TRUE(got.output == want.output);
  }
}

TEST(RoutingGiven, DoesNotDependOnThreads) {
  const RoutingProblem p = problem(150, 72, 5);
  const F32 given = test::random_f32({3, 5}, 1);
  test::expect_independent_of_threads([&] {
    const auto got = run<F32>(p, given);
    return std::vector<F32>{got.output, got.weights, got.rstd};
  });
}

}  // namespace
}  // namespace depthroute
