// What one measure shows and another does not: cancellation, and the limits of first-order estimates.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/eval/planted/planted_run.h"

namespace depthroute {
namespace {

using P = PlantedModel;
constexpr int kReader = 11;  // layers.5.mlp: S0 S2 S4 S6 S8 S10 S11

class Measures : public testing::TestWithParam<Variant> {
 protected:
  P model_{GetParam()};

  /// Puts a code of the token into S2 alone.
  void put_code() {
    model_.write_tokens(1, P::token, P::code, 1 / model_.coefficient(1, 0));
    if (GetParam() == Variant::cumulative) model_.write_tokens(3, P::token, P::code, -1);
  }
  /// How much of the embedding the reader reads when S2 is masked.
  double embedding_without_s2() const {
    if (GetParam() == Variant::cumulative) return 1;
    return model_.weight(kReader, 0) / (1 - model_.weight(kReader, 1));
  }
};

// The clean model is right after even tokens and wrong after odd ones; without the carrier it is the other way
// round, by as much.
TEST_P(Measures, EffectsThatCancelHaveADivergence) {
  put_code();
  constexpr double kMargin = 16;
  const double read = model_.coefficient(kReader, 0);
  const double base = kMargin * read / embedding_without_s2();  // clean; kMargin when S2 is masked
  for (int t = 0; t < P::kVocab; ++t) {
    const int right = P::answer((t + 1) % P::kVocab), wrong = P::answer((t + 2) % P::kVocab);
    model_.write(kReader, P::token(t), t % 2 ? right : wrong, base / read);
    model_.write(kReader, P::code(t), t % 2 ? wrong : right, (base + kMargin) / model_.weight(kReader, 1));
  }
  const PlantedRun run(model_, {}, {cell_at(model_, "carrier", Intervention::mask, kReader, 1)});
  const Effect& effect = run.effect("carrier");
  EXPECT_NEAR(effect[CellColumn::delta_nll].value, 0, 1e-5);
  EXPECT_NEAR(effect[CellColumn::abs_delta_nll].value, kMargin, 1e-3);
  EXPECT_NEAR(effect[CellColumn::kl].value, kMargin, 1e-3);
  EXPECT_EQ(effect[CellColumn::flips].value, 1);
  EXPECT_EQ(effect[CellColumn::hit_change].value, 0);
}

// A sure answer has no gradient, so a first-order estimate does not see what masking would cost.
TEST_P(Measures, AnEstimateOfASureAnswerIsFarTooSmall) {
  put_code();
  model_.weigh_states(kReader, {{2, 0.12}});
  model_.write_tokens(kReader, P::code, P::answer, 12 / 0.12, 1);
  PlantedOptions options;
  options.edge_estimates = true;
  const PlantedRun run(model_, {}, {cell_at(model_, "carrier", Intervention::mask, kReader, 1)}, options);
  const double estimate = run.edge_estimate(kReader, 1);
  // 15 wrong answers of e^-12, a margin of 12 that the mask takes away.
  EXPECT_NEAR(estimate, 12 * 15 * std::exp(-12.0), 1e-5);
  EXPECT_LT(estimate, 0.01);
  EXPECT_GT(run.delta("carrier"), 2.77);
}

INSTANTIATE_TEST_SUITE_P(Variants, Measures,
                         testing::Values(Variant::cumulative, Variant::reset, Variant::kimi),
                         [](const auto& test) { return std::string(to_string(test.param)); });

class Estimates : public testing::TestWithParam<const char*> {
 protected:
  Estimates() {
    write_shard(folder_ / "tokens.bin", random_tokens(60));
    tokens_ = std::make_unique<TokenStream>(std::vector<std::string>{folder_ / "tokens.bin"}, 97);
  }
  std::vector<Cell> biased(const DepthPlan& plan, double value) const {
    GridConfig grid;
    grid.edges = EdgeChoice::all;
    grid.interventions = {Intervention::bias};
    grid.value = value;
    return resolve_cells({grid}, {}, plan);
  }
  static double sum(const std::vector<double>& values) {
    double total = 0;
    for (const double value : values) total += value;
    return total;
  }
  TempFolder folder_;
  std::unique_ptr<TokenStream> tokens_;
};

// The gradient of a logit is the change of the loss that a small bias makes, and the estimate is made of it.
TEST_P(Estimates, AgreeWithFiniteDifferences) {
  constexpr double kStep = 0.02;
  constexpr int64_t kSequences = 4, kRows = kSequences * 7;
  EvalConfig config = session_config(GetParam(), kSequences);
  config.routing.edge_estimates = true;
  EvalSession session(config);
  const DepthPlan& plan = session.model->plan();
  std::vector<std::vector<Cell>> cells;
  std::vector<Comparison> list;
  for (const double factor : {1.0, -1.0, 2.0, -2.0}) cells.push_back(biased(plan, factor * kStep));
  for (const std::vector<Cell>& biases : cells)
    for (const Comparison& comparison : comparisons_of(biases)) list.push_back(comparison);
  const Evaluation evaluation = session.run(*tokens_, kSequences, list);
  const size_t count = list.size() / cells.size();
  const auto effect = [&](size_t index) { return sum(evaluation.outcomes[index][CellColumn::delta_nll]); };

  double largest = 0;
  size_t at = 0;
  for (const Cell& cell : cells[0]) {
    if (!cell.runs()) continue;
    // Central differences, extrapolated to a step of 0 (Richardson).
    const double narrow = (effect(at) - effect(at + count)) / (2 * kStep);
    const double wide = (effect(at + 2 * count) - effect(at + 3 * count)) / (4 * kStep);
    const double measured = narrow + (narrow - wide) / 3;
    ++at;
    const int n = plan.sites[cell.site].num_sources();
    const std::vector<float> dlogit = test::host_values(session.model->logit_gradients(cell.site));
    ASSERT_EQ(dlogit.size(), static_cast<size_t>(kRows * n));
    double gradient = 0;
    for (int64_t row = 0; row < kRows; ++row) gradient += dlogit[row * n + cell.source];
    EXPECT_NEAR(gradient, measured, 3e-3 + 5e-3 * std::abs(measured)) << cell.name;
    largest = std::max(largest, std::abs(measured));
  }
  EXPECT_EQ(at, count);
  EXPECT_GT(largest, 0.5);
}

INSTANTIATE_TEST_SUITE_P(Cases, Estimates, testing::Values("cumulative", "reset", "kimi"),
                         [](const auto& test) { return std::string(test.param); });

// Where a source has little weight, the first order is all there is.
TEST_F(Estimates, AreTheEffectOfMasksWhereWeightsAreSmall) {
  EvalConfig config = session_config("additive", 4);
  config.model.wrap = WrapConfig{{6.0}, 3, 4};
  config.routing.edge_estimates = true;
  EvalSession session(config);
  const DepthPlan& plan = session.model->plan();
  GridConfig grid;
  grid.edges = EdgeChoice::all;
  grid.interventions = {Intervention::mask};
  const std::vector<Cell> cells = resolve_cells({grid}, {}, plan);
  const Evaluation evaluation = session.run(*tokens_, 4, comparisons_of(cells));
  const std::vector<double>& estimates = evaluation.clean[CleanColumn::edge_estimate];
  const size_t widest = plan.max_sources(), sites = plan.sites.size();
  double squares = 0, errors = 0;
  size_t at = 0;
  for (const Cell& cell : cells) {
    if (!cell.runs()) continue;
    const std::vector<double>& effects = evaluation.outcomes[at++][CellColumn::delta_nll];
    if (cell.source == plan.sites[cell.site].num_sources() - 1) continue;
    for (size_t segment = 0; segment < effects.size(); ++segment) {
      const double estimate = estimates[(segment * sites + cell.site) * widest + cell.source];
      squares += effects[segment] * effects[segment];
      errors += (estimate - effects[segment]) * (estimate - effects[segment]);
    }
  }
  RecordProperty("relative_error", std::to_string(std::sqrt(errors / squares)));
  EXPECT_GT(squares, 1e-6);
  EXPECT_LT(std::sqrt(errors / squares), 0.02);
}

}  // namespace
}  // namespace depthroute
