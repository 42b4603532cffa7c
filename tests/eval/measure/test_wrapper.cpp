// A plain Qwen3 wrapped into `cumulative` under a recency schedule is the plain model, and its weights are a
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

EvalConfig wrapped_config(std::vector<double> recency_bias, int64_t sublayers_per_block = 4) {
  EvalConfig config = session_config("additive");
  config.model.wrap = WrapConfig{std::move(recency_bias), 3, sublayers_per_block};
  return config;
}

struct Tokens {
  TempFolder folder;
  std::unique_ptr<TokenStream> stream;
  Tokens() {
    write_shard(folder / "tokens.bin", random_tokens(60));
    stream = std::make_unique<TokenStream>(std::vector<std::string>{(folder / "tokens.bin")}, 97);
  }
};

TEST(Wrapper, EqualsThePlainModel) {
  const Tokens tokens;
  EvalSession plain(session_config("additive")), wrapped(wrapped_config({60.0}));
  const Evaluation a = plain.run(*tokens.stream, 6, {}), b = wrapped.run(*tokens.stream, 6, {});
  for (size_t i = 0; i < a.clean_nll.size(); ++i)
    EXPECT_NEAR(a.clean_nll[i], b.clean_nll[i], tolerance::kGoldenLoss);
  const std::vector<float> hidden = test::host_values(plain.model->final_hidden()),
                           other = test::host_values(wrapped.model->final_hidden());
  for (size_t i = 0; i < hidden.size(); ++i) EXPECT_NEAR(hidden[i], other[i], 1e-5);
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

TEST(Wrapper, ScheduleControlIsZeroForItsOwnBias) {
  const Tokens tokens;
  EvalSession session(wrapped_config({1.25}));
  const auto known_answers = make_known_answers(session.model->plan(), session.source.recency_bias);
  std::vector<Comparison> list;
  for (const KnownAnswer& known_answer : known_answers)
    list.push_back({known_answer.name, known_answer.first_site, known_answer.site_changes});
  const Evaluation evaluation = session.run(*tokens.stream, 4, list);
  ASSERT_EQ(known_answers.back().name, "schedule");
  EXPECT_EQ(evaluation.outcomes.back().largest_change, 0.0);
  for (size_t i = 0; i < known_answers.size(); ++i)
    EXPECT_TRUE(known_answers[i].passes(evaluation.outcomes[i].largest_change)) << known_answers[i].name;
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
  const Evaluation evaluation = session.run(*tokens.stream, 6,
                                            {{"only", cells[0].first_site, cells[0].site_changes},
                                             {"schedule", cells[1].first_site, cells[1].site_changes}});
  for (size_t s = 0; s < 6; ++s)
    EXPECT_NEAR(evaluation.outcomes[0].delta_nll[s], evaluation.outcomes[1].delta_nll[s],
                7 * tolerance::kGoldenLoss);
  EXPECT_GT(evaluation.outcomes[0].largest_change, 0.1);
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
