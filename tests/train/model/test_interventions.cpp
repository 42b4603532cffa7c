// Sites that read other contents, given weights, or only some tokens.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

#include "tests/tolerances.h"
#include "tests/train/model/small_model.h"

namespace depthroute {
namespace {

constexpr int64_t kBatch = 2, kLength = 6, kTokens = kBatch * kLength;

using Values = std::vector<float>;
using Doubles = std::vector<double>;

/// Random contents [rows, D] of about the size of the states.
test::F32 random_contents(int64_t rows, int64_t d, uint64_t seed) {
  test::F32 values({rows, d});
  float* const out = values.data();
  for (int64_t i = 0; i < rows * d; ++i) out[i] = static_cast<float>(random_normal_pair(seed, i).first);
  return values;
}

class Interventions : public testing::TestWithParam<Variant> {
 protected:
  Interventions()
      : tested_(small_config(GetParam()), {.micro_batch = kBatch, .seq_len = kLength, .interventions = true}),
        batch_(random_batch(kBatch, kLength, 61, 3)) {
    randomize(tested_, 29);
  }

  Qwen3& model() { return tested_.model; }
  const DepthPlan& plan() { return model().plan(); }
  std::vector<SiteIntervention> clean() { return std::vector<SiteIntervention>(plan().sites.size()); }
  /// Final hidden states of a pass.
  Values run(const std::vector<SiteIntervention>& interventions, int first_site = 0) {
    model().forward(tested_.stream, batch_.input_tensor(), interventions, first_site);
    return test::host_values(model().final_hidden());
  }
  Values weights(int site) { return test::host_values(model().trace(site).weights); }
  int last_site() { return static_cast<int>(plan().sites.size()) - 1; }
  int64_t width() { return model().config().hidden_size; }

  TestModel tested_;
  Batch batch_;
};

// In bf16, too: the sum that completes a state is rounded alike whether the read adds or an op before it.
TEST_P(Interventions, SourcesReplacedByThemselvesChangeNoBit) {
  for (const DType activations :
       test::on_cuda() ? std::vector{DType::f32, DType::bf16} : std::vector{DType::f32}) {
    TestModel tested(
        small_config(GetParam()),
        {.micro_batch = kBatch, .seq_len = kLength, .activations = activations, .interventions = true});
    randomize(tested, 29);
    Qwen3& same = tested.model;
    same.forward(tested.stream, batch_.input_tensor());
    const Values expected = test::host_values(same.final_hidden());
    std::vector<Values> clean_weights;
    std::vector<SiteIntervention> interventions = clean();
    for (int site = 0; site <= last_site(); ++site) {
      clean_weights.push_back(test::host_values(same.trace(site).weights));
      for (int j = 0; j < plan().sites[site].num_sources(); ++j)
        interventions[site].replaced.push_back(
            {j, Replaced::both, same.state(plan().sites[site].sources[j])});
    }
    same.forward(tested.stream, batch_.input_tensor(), interventions);
    EXPECT_EQ(test::host_values(same.final_hidden()), expected) << to_string(activations);
    for (int site = 0; site <= last_site(); ++site)
      EXPECT_EQ(test::host_values(same.trace(site).weights), clean_weights[site]) << site;
  }
}

TEST_P(Interventions, OwnWeightsGivenBackChangeNothingButRounding) {
  const Values expected = run({});
  std::vector<SiteIntervention> interventions = clean();
  std::vector<test::F32> kept;
  for (int site = 0; site <= last_site(); ++site) {
    const Values values = weights(site);
    test::F32& own = kept.emplace_back(Shape{kTokens, plan().sites[site].num_sources()});
    std::copy(values.begin(), values.end(), own.data());
  }
  for (int site = 0; site <= last_site(); ++site) interventions[site].weights = kept[site];
  const Values got = run(interventions);
  for (size_t i = 0; i < got.size(); ++i)
    EXPECT_NEAR(got[i], expected[i], 2e-5 * (1 + std::abs(expected[i])));
  for (int site = 0; site <= last_site(); ++site) EXPECT_EQ(weights(site), kept[site].values()) << site;
}

/// One site in float64: weights [N,n] from `keys`, and the normed mix [N,D] of `values`; both n x [N,D].
struct SlowSite {
  Doubles weights, output;
};

SlowSite slow_site(TestModel& model, int index, const std::vector<Doubles>& keys,
                   const std::vector<Doubles>& values) {
  const DepthPlan& plan = model.model.plan();
  const int64_t n = static_cast<int64_t>(keys.size()), d = model.model.config().hidden_size;
  const double eps = model.model.config().rms_norm_eps;
  const bool final = plan.sites[index].sublayer == Sublayer::final;
  const std::string prefix = final ? "model.final_res" : "model." + plan.site_name(index) + "_res";
  const Values query = test::host_values(model.parameter(prefix + "_proj.weight")),
               norm = test::host_values(model.parameter(prefix + "_norm.weight")),
               bias = test::host_values(model.parameter(prefix + "_bias")),
               out_norm = final ? test::host_values(model.parameter("model.norm.weight")) : Values(d, 1.0f);
  SlowSite slow;
  for (int64_t t = 0; t < kTokens; ++t) {
    Doubles logits;
    double total = 0, squares = 0;
    for (int64_t j = 0; j < n; ++j) {
      double sum = 0, dot = 0;
      for (int64_t c = 0; c < d; ++c) {
        const double v = keys[j][t * d + c];
        sum += v * v;
        dot += v * query[c] * norm[c];
      }
      logits.push_back(
          std::exp(dot / std::sqrt(sum / static_cast<double>(d) + eps) + (j == n - 1) * bias[0]));
      total += logits.back();
    }
    Doubles mix(d, 0.0);
    for (int64_t j = 0; j < n; ++j) {
      slow.weights.push_back(logits[j] / total);
      for (int64_t c = 0; c < d; ++c) mix[c] += slow.weights.back() * values[j][t * d + c];
    }
    for (const double h : mix) squares += h * h;
    for (int64_t c = 0; c < d; ++c)
      slow.output.push_back(mix[c] * out_norm[c] / std::sqrt(squares / static_cast<double>(d) + eps));
  }
  return slow;
}

void expect_near(const Values& got, const Doubles& expected, const std::string& what) {
  ASSERT_EQ(got.size(), expected.size()) << what;
  for (size_t i = 0; i < got.size(); ++i)
    EXPECT_NEAR(got[i], expected[i], 2e-5 * (1 + std::abs(expected[i]))) << what << " at " << i;
}

// Every part, at the first source, at the current state, and at both with different contents.
TEST_P(Interventions, ReplacedPartsAgreeWithASlowSite) {
  const int64_t d = width();
  // One row for all tokens, and one row per position.
  const test::F32 mean = random_contents(1, d, 41), positions = random_contents(kLength, d, 42);
  for (const Replaced first : {Replaced::values, Replaced::keys, Replaced::both}) {
    for (const Replaced last : {Replaced::values, Replaced::keys, Replaced::both}) {
      for (int site = last_site(); site > 0; site -= 3) {
        const std::vector<int>& sources = plan().sites[site].sources;
        const int n = static_cast<int>(sources.size());
        std::vector<SiteIntervention> interventions = clean();
        interventions[site].replaced = {{0, first, mean}, {n - 1, last, positions}};
        const Values hidden = run(interventions);
        std::vector<Doubles> keys, values;
        for (const int state : sources) {
          const Values own = test::host_values(model().state(state));
          keys.emplace_back(own.begin(), own.end());
        }
        values = keys;
        const Values one = mean.values(), many = positions.values();
        for (int64_t i = 0; i < kTokens * d; ++i) {
          if (first != Replaced::values) keys[0][i] = one[i % d];
          if (first != Replaced::keys) values[0][i] = one[i % d];
          if (last != Replaced::values) keys[n - 1][i] = many[i % (kLength * d)];
          if (last != Replaced::keys) values[n - 1][i] = many[i % (kLength * d)];
        }
        const SlowSite slow = slow_site(tested_, site, keys, values);
        expect_near(weights(site), slow.weights, plan().site_name(site));
        if (plan().sites[site].sublayer == Sublayer::final) expect_near(hidden, slow.output, "final");
      }
    }
  }
}

// A pass from the site on finds the current state complete; a whole pass has still to complete it. The state
// itself must not become the content.
TEST_P(Interventions, AReplacedCurrentStateLeavesTheStateItself) {
  const test::F32 contents = random_contents(kTokens, width(), 43);
  for (int site = 1; site <= last_site(); ++site) {
    const int current = plan().sites[site].num_sources() - 1;
    run({});
    const Values state = test::host_values(model().state(plan().sites[site].sources.back()));
    std::vector<SiteIntervention> interventions = clean();
    interventions[site].replaced = {{current, Replaced::both, contents}};
    const Values from_site = run(interventions, site), whole = run(interventions);
    EXPECT_EQ(whole, from_site) << site;
    EXPECT_EQ(test::host_values(model().state(plan().sites[site].sources.back())), state) << site;
    EXPECT_NE(whole, run({})) << site;
  }
}

// Content that is another state of the pass, also where that is the current one, which is completed first.
TEST_P(Interventions, ContentsMayBeStatesOfTheSamePass) {
  for (int site = 1; site <= last_site(); ++site) {
    const std::vector<int>& sources = plan().sites[site].sources;
    const int current = static_cast<int>(sources.size()) - 1;
    run({});
    const Values values = test::host_values(model().state(sources.back()));
    test::F32 copy({kTokens, width()});
    std::copy(values.begin(), values.end(), copy.data());
    std::vector<SiteIntervention> by_state = clean(), by_copy = clean();
    by_state[site].replaced = {{0, Replaced::both, model().state(sources.back())},
                               {current, Replaced::both, model().state(sources.front())}};
    by_copy[site].replaced = {{0, Replaced::both, copy},
                              {current, Replaced::both, model().state(sources.front())}};
    const Values expected = run(by_copy);
    EXPECT_EQ(run(by_state), expected) << site;
  }
}

/// What may be done to the tokens of a filter: one of each kind.
std::vector<SiteIntervention> kinds(const test::F32& contents, int n) {
  SiteIntervention dropped, values, replaced;
  dropped.offset.assign(n, 0.0f);
  dropped.offset[0] = -std::numeric_limits<float>::infinity();
  values.replaced = {{0, Replaced::values, contents}};
  replaced.replaced = {{n - 1, Replaced::both, contents}};
  return {dropped, values, replaced};
}

TEST_P(Interventions, TokensOutsideTheFilterStayClean) {
  const test::F32 contents = random_contents(kLength, width(), 44);
  const Values expected = run({});
  // No token depends on another after the last MLP's read.
  for (int site = plan().num_sublayers() - 1; site <= last_site(); ++site) {
    const int n = plan().sites[site].num_sources();
    run({});
    const Values clean_weights = weights(site);
    for (const SiteIntervention& kind : kinds(contents, n)) {
      std::vector<SiteIntervention> interventions = clean();
      interventions[site] = kind;
      const Values unfiltered = run(interventions), touched_weights = weights(site);
      test::I32 mask({kTokens});
      const auto filtered = [&](auto chosen) {
        for (int64_t t = 0; t < kTokens; ++t) mask[t] = chosen(t) ? 7 : 0;
        interventions[site].tokens = mask;
        return run(interventions);
      };
      EXPECT_EQ(filtered([](int64_t) { return false; }), expected);
      EXPECT_EQ(weights(site), clean_weights);
      EXPECT_EQ(filtered([](int64_t) { return true; }), unfiltered);
      EXPECT_EQ(weights(site), touched_weights);
      const Values some = filtered([](int64_t t) { return t % 3 == 1; });
      const Values some_weights = weights(site);
      for (int64_t i = 0; i < kTokens * width(); ++i)
        ASSERT_EQ(some[i], i / width() % 3 == 1 ? unfiltered[i] : expected[i]) << "token " << i / width();
      for (int64_t i = 0; i < kTokens * n; ++i)
        ASSERT_EQ(some_weights[i], i / n % 3 == 1 ? touched_weights[i] : clean_weights[i]);
      EXPECT_NE(unfiltered, expected);
    }
  }
}

// Attention carries a change on to later tokens only.
TEST_P(Interventions, TokensBeforeTheFilterStayCleanFromTheFirstSiteOn) {
  const test::F32 contents = random_contents(1, width(), 45);
  const Values expected = run({});
  test::I32 mask({kTokens}, 0);
  for (int64_t t = 0; t < kTokens; ++t) mask[t] = t % kLength >= 3;
  std::vector<SiteIntervention> interventions = clean();
  interventions[2].replaced = {{0, Replaced::values, contents}};
  interventions[2].tokens = mask;
  const Values got = run(interventions);
  for (int64_t i = 0; i < kTokens * width(); ++i) {
    if (i / width() % kLength < 3) {
      ASSERT_EQ(got[i], expected[i]);
    }
  }
  EXPECT_NE(got, expected);
}

TEST(InterventionMemory, IsPlannedOnlyWhereItIsAskedFor) {
  const auto bytes = [](bool interventions) {
    Arena arena(test::device());
    const Qwen3 model(small_config(Variant::reset),
                      {.micro_batch = 2, .seq_len = 6, .training = true, .interventions = interventions},
                      arena);
    return arena.total_bytes();
  };
  EXPECT_LT(bytes(false), bytes(true));
}

INSTANTIATE_TEST_SUITE_P(Variants, Interventions,
                         testing::Values(Variant::cumulative, Variant::reset, Variant::kimi),
                         [](const auto& test) { return std::string(to_string(test.param)); });

}  // namespace
}  // namespace depthroute
