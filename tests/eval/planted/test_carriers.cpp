// Which reads carry the answer, and which only have mass.
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "tests/eval/planted/planted_run.h"

namespace depthroute {
namespace {

using P = PlantedModel;
constexpr int kReader = 11;  // layers.5.mlp: S0 S2 S4 S6 S8 S10 S11

class Carriers : public testing::TestWithParam<Variant> {
 protected:
  P model_{GetParam()};

  /// Puts a channel per token into one state of those at block ends: it is written by the block's MLP and, where
  /// no state restarts, taken out by that of the next block.
  void put(int state, int (*channel)(int)) {
    model_.write_tokens(state - 1, P::token, channel, 1 / model_.coefficient(state - 1, 0));
    if (GetParam() == Variant::cumulative) model_.write_tokens(state + 1, P::token, channel, -1);
  }
  /// Lets the reader answer from the code, so that `amount` of it makes a margin of 12 nats.
  void answer_from_code(double amount) { model_.write_tokens(kReader, P::code, P::answer, 12 / amount, 1); }
};

TEST_P(Carriers, EdgeMapFindsTheCarrierAndNotTheHeaviestSource) {
  put(2, P::code);
  put(6, P::other);
  model_.weigh_states(kReader, {{2, 0.12}, {6, 0.65}});
  answer_from_code(0.12);
  const PlantedRun run(model_, {all_edges()}, {});

  std::set<Edge> expected = {{kReader, 1}};
  if (model_.plan().has_final_site()) expected.insert({12, model_.plan().sites[12].num_sources() - 1});
  if (GetParam() == Variant::kimi) expected.insert({1, 0});  // the writer's only source of tokens
  std::set<Edge> found;
  double heaviest = 0, heaviest_effect = 0;
  for (const Cell& cell : run.cells()) {
    if (!cell.runs()) continue;
    const Effect& effect = run.effect(cell.name);
    const double delta = effect[CellColumn::delta_nll].value;
    if (std::abs(delta) > 2e-4) found.insert({cell.site, cell.source});
    if (cell.site == kReader && effect.mass > heaviest) heaviest = effect.mass, heaviest_effect = delta;
  }
  EXPECT_EQ(found, expected);
  EXPECT_NEAR(run.delta("mask/layers.5.mlp/1"), kAnswerLost - 15 * std::exp(-12.0), 2e-5);
  EXPECT_NEAR(run.effect("mask/layers.5.mlp/1").mass, 0.12, 1e-5);
  EXPECT_NEAR(heaviest, 0.65, 1e-5);
  EXPECT_NEAR(heaviest_effect, -15 * std::exp(-12.0), 2e-5);  // the carrier gains
  EXPECT_NEAR(run.results().clean.value, 15 * std::exp(-12.0), 2e-5);
}

TEST_P(Carriers, NothingReadsWhatHasNearlyAllTheMass) {
  put(2, P::code);
  answer_from_code(1.0 / 7);
  put(4, P::other);
  const int silent = 9;
  model_.silence(silent);
  model_.weigh_states(silent, {{4, 0.95}});
  const int source = model_.source_of(silent, 4);
  std::vector<CellConfig> cells;
  for (const Intervention intervention : {Intervention::mask, Intervention::mean, Intervention::resample})
    cells.push_back(cell_at(model_, to_string(intervention), intervention, silent, source));
  cells.push_back(cell_at(model_, "carrier", Intervention::mask, kReader, 1));
  const PlantedRun run(model_, {}, cells);
  for (const char* name : {"mask", "mean", "resample"}) {
    const Outcome& outcome = run.outcome(name);
    EXPECT_NEAR(run.effect(name).mass, 0.95, 1e-5);
    EXPECT_EQ(run.effect(name).largest_change, 0.0) << name;
    for (const CellColumn sums : {CellColumn::delta_nll, CellColumn::abs_delta_nll, CellColumn::kl,
                                  CellColumn::flips, CellColumn::hit_change})
      for (const double sum : outcome[sums]) EXPECT_EQ(sum, 0.0) << name;
  }
  EXPECT_GT(run.delta("carrier"), 2.77);
}

TEST_P(Carriers, OnlyAUnionFindsARedundantPair) {
  put(2, P::code);
  put(6, P::code);
  model_.weigh_states(kReader, {{2, 0.2}, {6, 0.2}});
  answer_from_code(0.2);
  const PlantedRun run(
      model_, {},
      {cell_at(model_, "first", Intervention::mask, kReader, 1),
       cell_at(model_, "second", Intervention::mask, kReader, 3), union_cell("both", {"first", "second"})});
  for (const char* name : {"first", "second"}) {
    EXPECT_NEAR(run.delta(name), 0, 1e-5) << name;
    EXPECT_EQ(run.cell(name).sites_duplicate, 0) << name;  // the states differ: counts cannot tell
  }
  EXPECT_NEAR(run.delta("both"), kAnswerLost, 1e-4);
}

INSTANTIATE_TEST_SUITE_P(Variants, Carriers,
                         testing::Values(Variant::cumulative, Variant::reset, Variant::kimi),
                         [](const auto& test) { return std::string(to_string(test.param)); });

TEST(Duplicates, OnlyDistinctFindsAStateHeldTwice) {
  P model(Variant::cumulative);
  const int boundary = 10;  // layers.5.attn: S0 S2 S4 S6 S8 S10 S10
  model.write_tokens(boundary - 1, P::token, P::code, 1);
  model.weigh(boundary, {0.1, 0.1, 0.1, 0.1, 0.1, 0.2, 0.3});
  model.write_tokens(boundary, P::code, P::answer, 12 / 0.2, 1);
  std::vector<CellConfig> cells(4);
  const std::vector<Family> families = {Family::recent, Family::current, Family::recent, Family::older};
  const std::vector<std::string> names = {"recent", "current", "distinct", "older"};
  for (size_t i = 0; i < cells.size(); ++i) {
    cells[i].name = names[i];
    cells[i].source_families = {families[i]};
    cells[i].sublayers = {Sublayer::attn};
    cells[i].layers = {5};
    cells[i].distinct = names[i] == "distinct";
  }
  const PlantedRun run(model, {}, cells);
  for (const char* name : {"recent", "current", "older"}) EXPECT_NEAR(run.delta(name), 0, 1e-4) << name;
  EXPECT_EQ(run.cell("recent").sites_duplicate, 1);
  EXPECT_EQ(run.cell("current").sites_duplicate, 1);
  EXPECT_EQ(run.cell("distinct").sites_duplicate, 0);
  EXPECT_NEAR(run.delta("distinct"), kAnswerLost, 1e-4);
  EXPECT_NEAR(run.effect("distinct").mass, 0.5, 1e-5);
}

}  // namespace
}  // namespace depthroute
