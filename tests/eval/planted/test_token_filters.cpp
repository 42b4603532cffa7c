// Interventions at some tokens: where no token looks at another, filters divide the effect; where they do, an
// effect stays at and after its token.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/eval/planted/planted_run.h"

namespace depthroute {
namespace {

using P = PlantedModel;

class TokenFilters : public testing::TestWithParam<Variant> {
 protected:
  P model_{GetParam()};

  CellConfig mask(int site, int source, const std::string& name, TokenFilter filter) const {
    CellConfig cell = cell_at(model_, name, Intervention::mask, site, source);
    cell.tokens = filter;
    cell.per_token = true;
    return cell;
  }
  std::vector<CellConfig> masks(int site, int source) const {
    return {mask(site, source, "all", TokenFilter::all),
            mask(site, source, "position_0", TokenFilter::position_0),
            mask(site, source, "not_position_0", TokenFilter::not_position_0)};
  }
  static double at(const PlantedRun& run, const std::string& cell, int64_t sequence, int64_t position) {
    return run.outcome(cell)[CellColumn::token_delta_nll].at(static_cast<size_t>(sequence * 7 + position));
  }
};

TEST_P(TokenFilters, DivideTheEffectWhereTokensAreAlone) {
  const int reader = 11;
  model_.write_tokens(1, P::token, P::code, 1 / model_.coefficient(1, 0));
  if (GetParam() == Variant::cumulative) model_.write_tokens(3, P::token, P::code, -1);
  model_.write_tokens(reader, P::code, P::answer, 12 * 7, 1);
  const PlantedRun run(model_, {}, masks(reader, 1));
  for (int64_t sequence = 0; sequence < 16; ++sequence)
    for (int64_t position = 0; position < 7; ++position) {
      const double whole = at(run, "all", sequence, position);
      EXPECT_NEAR(whole, kAnswerLost, 1e-3);
      EXPECT_EQ(at(run, "position_0", sequence, position), position == 0 ? whole : 0);
      EXPECT_EQ(at(run, "not_position_0", sequence, position), position == 0 ? 0 : whole);
    }
  EXPECT_NEAR(run.delta("position_0") + run.delta("not_position_0"), run.delta("all"), 1e-12);
  EXPECT_NEAR(run.delta("position_0"), kAnswerLost / 7, 1e-4);
}

// Sequences are 8 + k, k, k, ...: only tokens from 8 on have a code, and attention over all positions brings it
// to the others, which answer from nothing else.
TEST_P(TokenFilters, FindACarrierAtPosition0) {
  const int reader = 6;  // layers.3.attn: S0 S2 S4 S6, in cumulative S6 twice
  model_.attend_to_all(3);
  for (int k = 0; k < 8; ++k) {
    model_.write(1, P::token(8 + k), P::code(k), 1 / model_.coefficient(1, 0));
    if (GetParam() == Variant::cumulative) model_.write(3, P::token(8 + k), P::code(k), -1);
    model_.write(reader, P::code(k), P::answer(k), 12 * 7 / model_.weight(reader, 1));
  }
  // The last block reads the answer where the stream ends with a final site.
  if (GetParam() != Variant::cumulative) model_.weigh_states(12, {{8, 0.999}});
  PlantedOptions options;
  for (int k = 0; k < 8; ++k)
    for (int t = 0; t < 7; ++t) options.tokens.push_back(t == 0 ? 8 + k : k);
  options.tokens.push_back(0);
  options.sequences = 8;
  const PlantedRun run(model_, {}, masks(reader, 1), options);
  for (int64_t sequence = 0; sequence < 8; ++sequence)
    for (int64_t position = 0; position < 6; ++position) {  // the last target is another sequence's
      EXPECT_NEAR(at(run, "all", sequence, position), kAnswerLost, 1e-3);
      EXPECT_NEAR(at(run, "position_0", sequence, position), kAnswerLost, 1e-3);
      EXPECT_NEAR(at(run, "not_position_0", sequence, position), 0, 1e-5);
    }
}

INSTANTIATE_TEST_SUITE_P(Variants, TokenFilters,
                         testing::Values(Variant::cumulative, Variant::reset, Variant::kimi),
                         [](const auto& test) { return std::string(to_string(test.param)); });

class FilteredTokens : public testing::TestWithParam<const char*> {};

TEST_P(FilteredTokens, ChangeNothingBeforeThem) {
  const TempFolder folder;
  write_shard(folder / "tokens.bin", random_tokens(60));
  const TokenStream tokens({folder / "tokens.bin"}, 97);
  std::vector<CellConfig> configs(7);
  for (size_t first = 0; first < configs.size(); ++first) {
    configs[first].name = std::to_string(first);
    configs[first].source_families = {Family::embedding};
    configs[first].sublayers = {Sublayer::attn, Sublayer::mlp};
    configs[first].first_token = static_cast<int64_t>(first);
    configs[first].per_token = true;
  }
  const DepthPlan plan =
      make_depth_plan(open_eval_model(session_config(GetParam()), golden_folder(GetParam())).config);
  const std::vector<Cell> cells = resolve_cells({}, configs, plan);
  const Comparisons comparisons = make_comparisons(plan, cells, {}, "", "");
  EvalSession session(session_config(GetParam()), needs_of(plan, comparisons.list));
  const Evaluation evaluation = session.run(tokens, 4, comparisons.list);
  for (size_t first = 0; first < configs.size(); ++first) {
    const std::vector<double>& change = evaluation.outcomes[first][CellColumn::token_delta_nll];
    for (size_t i = 0; i < change.size(); ++i) {
      EXPECT_EQ(change[i] == 0.0, i % 7 < first) << first << " token " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, FilteredTokens, testing::Values("cumulative", "reset", "kimi"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace depthroute
