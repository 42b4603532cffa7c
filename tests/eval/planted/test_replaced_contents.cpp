// What tells mask, mean and resample apart, keys from values, and weights from contents.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/eval/planted/planted_run.h"

namespace depthroute {
namespace {

using P = PlantedModel;
constexpr int kReader = 11;    // layers.5.mlp: S0 S2 S4 S6 S8 S10 S11
constexpr int kA = 1, kB = 3;  // places of S2 and S6 there
const double kBitLost = std::log(2.0);

class ReplacedContents : public testing::TestWithParam<Variant> {
 protected:
  P model_{GetParam()};

  bool cumulative() const { return GetParam() == Variant::cumulative; }
  /// Writes into the state at a block's end, and into no other of those.
  void put_amount(int state, int channel, double amount) {
    model_.write(state - 1, P::kConstant, channel, amount / P::kAmount);
    if (cumulative()) model_.write(state + 1, P::kConstant, channel, -amount / P::kAmount);
  }
  void put_for_token(int state, int token, int channel, double amount) {
    model_.write(state - 1, P::token(token), channel, amount / model_.coefficient(state - 1, 0));
    if (cumulative()) model_.write(state + 1, P::token(token), channel, -amount);
  }
  /// A code of the token in S2, which the reader answers from.
  void plant_carrier() {
    for (int t = 0; t < P::kVocab; ++t) put_for_token(2, t, P::code(t), 1);
    model_.weigh_states(kReader, {{2, 0.2}, {6, 0.4}});
    model_.write_tokens(kReader, P::code, P::answer, 12 / 0.2, 1);
  }
  /// One bit of the answer, whether it is odd, is in the reader's weights alone: S2 holds 1 and S6 -1, and
  /// their keys say whose turn it is. The rest of the answer is written by the sublayer before.
  void plant_content_routing() {
    model_.weigh_states(kReader, {{2, 0.4}, {6, 0.4}});
    put_amount(2, P::spare(0), 1);
    put_amount(6, P::spare(0), -1);
    for (int t = 0; t < P::kVocab; ++t) {
      const double bit = t % 2 ? -1 : 1;
      put_for_token(2, t, P::spare(1), bit);
      put_for_token(6, t, P::spare(1), -bit);
      const int pair = (t + 1) % P::kVocab / 2 * 2;
      for (const int v : {pair, pair + 1})
        model_.write(kReader - 1, P::token(t), P::answer(v), 60 / model_.coefficient(kReader - 1, 0));
      model_.write(kReader, P::spare(0), P::answer(t), t % 2 ? 20 : -20);
    }
    model_.steer(kReader, P::spare(1), 1.5);
  }
  CellConfig cell(const std::string& name, Intervention intervention, std::vector<int64_t> sources = {kA},
                  std::optional<Replace> replace = {}) const {
    CellConfig result = cell_at(model_, name, intervention, kReader, 0);
    result.source_positions = std::move(sources);
    if (acts_on_all_sources(intervention)) result.source_positions.clear();
    result.replace = replace;
    return result;
  }
};

TEST_P(ReplacedContents, ThreeWaysToLoseACarrier) {
  plant_carrier();
  const PlantedRun run(model_, {},
                       {cell("mask", Intervention::mask), cell("mean", Intervention::mean),
                        cell("resample", Intervention::resample)});
  EXPECT_NEAR(run.delta("mask"), kAnswerLost, 1e-3);
  // The mean holds a sixteenth of every code: an even guess as well.
  EXPECT_NEAR(run.delta("mean"), kAnswerLost, 1e-3);
  // Another sequence's token is a sure wrong answer, whichever the donor.
  EXPECT_NEAR(run.delta("resample"), 12, 1e-3);
  EXPECT_NEAR(run.effect("resample").donor_std, 0, 1e-3);
  EXPECT_EQ(run.cell("resample").repeats, 5);
}

// S6 holds the opposite of what S2 says of token 0. Nothing depends on what the tokens are, but S6 must be there.
TEST_P(ReplacedContents, OnlyAMaskFindsASourceThatMattersByItsPresence) {
  model_.weigh_states(kReader, {{2, 0.2}, {6, 0.4}});
  model_.write_tokens(kReader - 1, P::token, P::answer, 40 / model_.coefficient(kReader - 1, 0), 1);
  put_amount(2, P::spare(0), 1);
  put_amount(6, P::spare(0), -0.5);
  model_.write(kReader, P::spare(0), P::answer(0), 300 / 0.2);
  const PlantedRun run(model_, {},
                       {cell("mask", Intervention::mask, {kB}), cell("mean", Intervention::mean, {kB}),
                        cell("resample", Intervention::resample, {kB})});
  EXPECT_GT(run.delta("mask"), 20);
  EXPECT_NEAR(run.delta("mean"), 0, 1e-5);
  EXPECT_NEAR(run.delta("resample"), 0, 1e-5);
}

TEST_P(ReplacedContents, WhereOnlyValuesMatter) {
  plant_carrier();
  std::vector<CellConfig> cells;
  for (const Intervention intervention : {Intervention::mean, Intervention::resample})
    for (const Replace replace : values<Replace>())
      cells.push_back(
          cell(std::string(to_string(intervention)) + "/" + to_string(replace), intervention, {kA}, replace));
  const PlantedRun run(model_, {}, cells);
  for (const std::string name : {"mean", "resample"}) {
    EXPECT_NEAR(run.delta(name + "/keys"), 0, 1e-5) << name;
    EXPECT_NEAR(run.delta(name + "/values"), run.delta(name + "/both"), 1e-3) << name;
    EXPECT_GT(run.delta(name + "/values"), 2.77) << name;
  }
}

TEST_P(ReplacedContents, WhereOnlyKeysMatter) {
  plant_content_routing();
  std::vector<CellConfig> cells;
  for (const Intervention intervention : {Intervention::mean, Intervention::resample})
    for (const Replace replace : values<Replace>())
      cells.push_back(cell(std::string(to_string(intervention)) + "/" + to_string(replace), intervention,
                           {kA, kB}, replace));
  cells.push_back(cell("permute", Intervention::permute, {kA, kB}));
  cells.push_back(cell("permute/both", Intervention::permute, {kA, kB}, Replace::both));
  const PlantedRun run(model_, {}, cells);
  EXPECT_LT(run.results().clean.value, 1e-4);
  for (const std::string name : {"mean", "resample"}) {
    EXPECT_NEAR(run.delta(name + "/values"), 0, 1e-5) << name;
    EXPECT_NEAR(run.delta(name + "/keys"), run.delta(name + "/both"), 1e-3) << name;
  }
  EXPECT_NEAR(run.delta("mean/keys"), kBitLost, 1e-3);
  EXPECT_GT(run.delta("resample/keys"), 5);  // a donor of the other parity is surely wrong
  EXPECT_GT(run.effect("resample/keys").donor_std, 0.1);
  EXPECT_GT(run.delta("permute"), 20);  // always the wrong one
  EXPECT_NEAR(run.delta("permute/both"), 0, 1e-5);
}

TEST_P(ReplacedContents, FreezeTakesWhatWeightsCarryAndHoldDoesNot) {
  plant_content_routing();
  std::vector<CellConfig> cells = {cell("freeze", Intervention::freeze),
                                   cell("hold", Intervention::hold),
                                   cell("freeze/position", Intervention::freeze),
                                   cell("values", Intervention::mean, {kA, kB}, Replace::values),
                                   cell("swap", Intervention::permute, {kA, kB}),
                                   union_cell("hold + values", {"hold", "values"}),
                                   union_cell("freeze + swap", {"freeze", "swap"}),
                                   union_cell("hold + swap", {"hold", "swap"})};
  cells[2].average = Average::position;
  const PlantedRun run(model_, {}, cells);
  EXPECT_NEAR(run.delta("freeze"), kBitLost, 1e-3);
  EXPECT_NEAR(run.delta("freeze/position"), kBitLost, 1e-3);  // every position sees all tokens
  EXPECT_NEAR(run.delta("hold"), 0, 1e-5);
  EXPECT_NEAR(run.delta("hold + values"), 0, 1e-5);
  EXPECT_NEAR(run.delta("freeze + swap"), kBitLost, 1e-3);
  EXPECT_NEAR(run.delta("hold + swap"), run.delta("swap"), 1e-4);
  EXPECT_GT(run.delta("swap"), 20);
}

INSTANTIATE_TEST_SUITE_P(Variants, ReplacedContents,
                         testing::Values(Variant::cumulative, Variant::reset, Variant::kimi),
                         [](const auto& test) { return std::string(to_string(test.param)); });

}  // namespace
}  // namespace depthroute
