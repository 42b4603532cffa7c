// A wrapped model's effects, from weights computed by hand.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/eval/eval_fixture.h"
#include "tests/train/model/model_fixture.h"

namespace depthroute {
namespace {

constexpr int64_t kSequences = 4, kLength = 7;

struct Wrapped {
  TempFolder folder;
  std::unique_ptr<TokenStream> tokens;
  EvalConfig config = session_config("additive", kSequences);

  explicit Wrapped(double bias) {
    write_shard(folder / "tokens.bin", random_tokens(60));
    tokens = std::make_unique<TokenStream>(std::vector<std::string>{folder / "tokens.bin"}, 97);
    config.model.wrap = WrapConfig{{bias}, 3, 4};
  }
  DepthPlan plan() const { return make_depth_plan(open_eval_model(config, config.model.from).config); }
};

/// The schedule's weights where the sources of `family` are dropped; none if there are none or no others.
std::vector<float> weights_without(const Site& site, Family family, double bias) {
  std::vector<double> weights;
  double sum = 0;
  bool dropped = false;
  for (int j = 0; j < site.num_sources(); ++j) {
    const bool drop = site.family(j) == family;
    dropped = dropped || drop;
    weights.push_back(drop ? 0 : std::exp(j == site.num_sources() - 1 ? bias : 0.0));
    sum += weights.back();
  }
  std::vector<float> result;
  if (!dropped || sum == 0) return result;
  for (const double weight : weights) result.push_back(static_cast<float>(weight / sum));
  return result;
}

class WrappedEffects : public testing::TestWithParam<double> {};

TEST_P(WrappedEffects, AreThoseOfTheFormula) {
  const double bias = GetParam();
  const Wrapped wrapped(bias);
  GridConfig grid;
  grid.families = {Family::current, Family::older, Family::embedding};
  grid.sublayers = {Sublayer::attn, Sublayer::mlp};
  grid.bands = values<Band>();
  grid.interventions = {Intervention::mask};
  const DepthPlan plan = wrapped.plan();
  const std::vector<Cell> cells = resolve_cells({grid}, {}, plan);
  const std::vector<Comparison> list = comparisons_of(cells);
  EvalSession session(wrapped.config);
  RoutingTrace trace(plan);
  const Sequences sequences = session.windows(*wrapped.tokens, kSequences);
  const Evaluation evaluation = session.run(sequences, list, &trace);
  EXPECT_LT(check_wrapper(trace, std::vector<double>{bias}).largest_deviation, 2e-7);

  // By hand: the same model, its weights given as tensors, its loss by itself.
  std::vector<int32_t> windows;
  std::vector<int32_t> inputs(kLength), targets(kLength);
  for (int64_t i = 0; i < kSequences; ++i) {
    sequences.read(i, inputs, targets);
    windows.insert(windows.end(), inputs.begin(), inputs.end());
    windows.push_back(targets.back());
  }
  Batch batch(windows, kSequences, kLength);
  TestModel model(session.source.config,
                  {.micro_batch = kSequences, .seq_len = kLength, .interventions = true});
  load_eval_model(model.stream, session.source, model.model);
  const auto losses = [&](const std::vector<SiteIntervention>& interventions) {
    model.model.forward(model.stream, batch.input_tensor(), interventions);
    model.model.loss(model.stream, batch.target_tensor());
    return model.nll();
  };
  const std::vector<float> clean = losses({});
  double largest = 0;
  size_t at = 0;
  for (const Cell& cell : cells) {
    if (!cell.runs()) continue;
    const Family family = parse_or_fail<Family>("family", cell.family);
    std::vector<test::F32> given;
    given.reserve(plan.sites.size());
    std::vector<SiteIntervention> interventions(plan.sites.size());
    for (size_t site = 0; site < plan.sites.size(); ++site) {
      const bool chosen = to_string(plan.sites[site].sublayer) == cell.sublayer &&
                          to_string(plan.band(static_cast<int>(site))) == cell.band;
      const std::vector<float> weights = weights_without(plan.sites[site], family, bias);
      if (!chosen || weights.empty()) continue;
      given.emplace_back(Shape{1, static_cast<int64_t>(weights.size())});
      std::ranges::copy(weights, given.back().data());
      interventions[site].weights = given.back();
    }
    const std::vector<float> under = losses(interventions);
    const std::vector<double>& measured = evaluation.outcomes[at++][CellColumn::delta_nll];
    for (int64_t i = 0; i < kSequences; ++i) {
      double expected = 0;
      for (int64_t t = i * kLength; t < (i + 1) * kLength; ++t)
        expected += static_cast<double>(under[t]) - static_cast<double>(clean[t]);
      EXPECT_NEAR(measured[i], expected, 1e-4) << cell.name;
      largest = std::max(largest, std::abs(expected));
    }
  }
  EXPECT_GT(largest, 0.5);
}

INSTANTIATE_TEST_SUITE_P(Biases, WrappedEffects, testing::Values(3.0, 30.0),
                         [](const auto& test) { return std::to_string(static_cast<int>(test.param)); });

TEST(WrappedFreeze, ChangesNothingAnywhere) {
  const Wrapped wrapped(3);
  const DepthPlan plan = wrapped.plan();
  std::vector<CellConfig> configs(3);
  const std::vector<Intervention> interventions = {Intervention::freeze, Intervention::hold,
                                                   Intervention::uniform};
  for (size_t i = 0; i < configs.size(); ++i) {
    configs[i].name = to_string(interventions[i]);
    configs[i].intervention = interventions[i];
    configs[i].sublayers = {Sublayer::attn, Sublayer::mlp};
  }
  const std::vector<Cell> cells = resolve_cells({}, configs, plan);
  const std::vector<Comparison> list = comparisons_of(cells);
  EvalSession session(wrapped.config, needs_of(plan, list));
  const Sequences sequences = session.windows(*wrapped.tokens, kSequences);
  session.evaluator->calibrate(session.stream, sequences);
  const Evaluation evaluation = session.run(sequences, list);
  for (size_t i = 0; i < 2; ++i)
    EXPECT_LT(evaluation.outcomes[i][CellColumn::largest_change].front(), 1e-4) << configs[i].name;
  EXPECT_GT(evaluation.outcomes[2][CellColumn::largest_change].front(), 0.05);
}

}  // namespace
}  // namespace depthroute
