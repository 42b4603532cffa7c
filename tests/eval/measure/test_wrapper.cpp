// A plain Qwen3 or Llama wrapped into `cumulative` under a recency schedule is the plain model, and its weights are a
// formula.
#include <gtest/gtest.h>

#include <cmath>

#include "configs/base/error.h"
#include "eval/cells/grid.h"
#include "eval/cells/known_answers.h"
#include "eval/measure/work_plan.h"
#include "eval/results/hdf5.h"
#include "tests/eval/eval_fixture.h"
#include "tests/tolerances.h"
#include "tests/train/model/model_fixture.h"

namespace depthroute {
namespace {

EvalConfig wrapped_config(std::vector<double> recency_bias, int64_t sublayers_per_block = 4,
                          const char* name = "additive") {
  EvalConfig config = session_config(name);
  config.model.wrap = WrapConfig{std::move(recency_bias), 3, sublayers_per_block};
  return config;
}

struct Tokens {
  TempFolder folder;
  std::unique_ptr<TokenStream> stream;
  explicit Tokens(int32_t vocab_size = 97) {
    write_shard(folder / "tokens.bin", random_tokens(60, vocab_size));
    stream = std::make_unique<TokenStream>(std::vector<std::string>{(folder / "tokens.bin")}, vocab_size);
  }
};

void expect_wrapped_equals_plain(const char* name, const Tokens& tokens) {
  EvalSession plain(session_config(name)), wrapped(wrapped_config({60.0}, 4, name));
  const Evaluation a = plain.run(*tokens.stream, 6, {}), b = wrapped.run(*tokens.stream, 6, {});
  for (size_t i = 0; i < a.clean[CleanColumn::nll].size(); ++i)
    EXPECT_NEAR(a.clean[CleanColumn::nll][i], b.clean[CleanColumn::nll][i], tolerance::kGoldenLoss);
  const std::vector<float> hidden = test::host_values(plain.model->final_hidden()),
                           other = test::host_values(wrapped.model->final_hidden());
  for (size_t i = 0; i < hidden.size(); ++i) EXPECT_NEAR(hidden[i], other[i], 1e-5);
}

TEST(Wrapper, EqualsThePlainModel) {
  expect_wrapped_equals_plain("additive", Tokens());
  expect_wrapped_equals_plain("llama", Tokens(61));
}

TEST(Wrapper, WeightsAreTheScheduleAndDoNotVary) {
  const Tokens tokens;
  std::vector<double> per_site;
  for (int site = 0; site < 12; ++site) per_site.push_back(-1.0 + 0.5 * site);
  for (const std::vector<double>& bias : {std::vector<double>{0.7}, std::vector<double>{30.0}, per_site}) {
    EvalSession session(wrapped_config(bias));
    RoutingTrace trace(session.model->plan());
    session.run(*tokens.stream, 6, {}, &trace);
    const WrapperCheck check = check_wrapper(trace, bias);
    EXPECT_LT(check.largest_deviation, 2e-7) << bias[0];
    EXPECT_EQ(check.largest_std, 0.0) << bias[0];
    EXPECT_GT(check_wrapper(trace, std::vector<double>{bias[0] - 1}).largest_deviation,
              bias[0] < 5 ? 0.01 : 1e-14);
  }
}

TEST(Wrapper, ScheduleIsZeroForItsOwnBias) {
  const Tokens tokens;
  const EvalConfig config = wrapped_config({1.25});
  const EvalModel source = open_eval_model(config, config.model.from);
  const DepthPlan plan = make_depth_plan(source.config);
  const auto known_answers = make_known_answers(plan, source.recency_bias);
  const std::vector<Comparison> list = comparisons_of(known_answers);
  EvalSession session(config, needs_of(plan, list));
  const Evaluation evaluation = session.run(*tokens.stream, 4, list);
  bool found = false;
  for (size_t i = 0; i < known_answers.size(); ++i) {
    const double largest = evaluation.outcomes[i][CellColumn::largest_change].front();
    EXPECT_TRUE(known_answers[i].passes(largest)) << known_answers[i].name;
    if (known_answers[i].name != "schedule") continue;
    found = true;
    EXPECT_EQ(largest, 0.0);
  }
  EXPECT_TRUE(found);
}

TEST(Wrapper, KeepingOnlyTheCurrentStateIsAScheduleWithALargeBias) {
  const Tokens tokens;
  EvalSession session(session_config("cumulative"));
  CellConfig only, schedule;
  only.name = "only";
  only.intervention = Intervention::only;
  only.source_families = {Family::current};
  only.sublayers = schedule.sublayers = {Sublayer::attn, Sublayer::mlp};
  only.bands = schedule.bands = {Band::mid, Band::late};
  schedule.name = "schedule";
  schedule.intervention = Intervention::schedule;
  schedule.value = 60;
  const auto cells = resolve_cells({}, {only, schedule}, session.model->plan());
  const Evaluation evaluation = session.run(*tokens.stream, 6, comparisons_of(cells));
  const Outcome &kept = evaluation.outcomes[0], &scheduled = evaluation.outcomes[1];
  for (size_t s = 0; s < 6; ++s)
    EXPECT_NEAR(kept[CellColumn::delta_nll][s], scheduled[CellColumn::delta_nll][s],
                7 * tolerance::kGoldenLoss);
  EXPECT_GT(kept[CellColumn::largest_change].front(), 0.1);
}

TEST(Wrapper, WhatCannotBeWrappedIsRefused) {
  EvalConfig config = wrapped_config({1.0, 2.0});
  EXPECT_THROW(open_eval_model(config, config.model.from),
               ConfigError);  // neither one value nor one per site
  config = wrapped_config({30.0});
  config.model.from = golden_folder("reset");
  EXPECT_THROW(open_eval_model(config, config.model.from), InputError);  // not plain
  config = session_config("additive");
  EXPECT_NO_THROW(open_eval_model(config, config.model.from));
  config.cells.emplace_back();
  EXPECT_THROW(open_eval_model(config, config.model.from), InputError);  // no routing to change
}

}  // namespace
}  // namespace depthroute
