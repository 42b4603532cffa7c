// The evaluation loop: an unchanged model changes nothing, reuse of states changes nothing, and neither order
// nor batch size matters.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "eval/cells/grid.h"
#include "eval/cells/known_answers.h"
#include "eval/measure/work_plan.h"
#include "tests/eval/eval_fixture.h"
#include "tests/tolerances.h"

namespace depthroute {
namespace {

class EvaluateTest : public testing::TestWithParam<const char*> {
 protected:
  EvaluateTest() {
    write_shard(folder_ / "tokens.bin", random_tokens(60));
    tokens_ = std::make_unique<TokenStream>(std::vector<std::string>{folder_ / "tokens.bin"}, 97);
  }
  std::vector<Cell> edges(const DepthPlan& plan) const {
    GridConfig config;
    config.edges = EdgeChoice::all;
    config.interventions = {Intervention::mask};
    return resolve_cells({config}, {}, plan);
  }
  TempFolder folder_;
  std::unique_ptr<TokenStream> tokens_;
};

using Evaluate = EvaluateTest;

void expect_equal(const Outcome& a, const Outcome& b, const std::string& what) {
  for (size_t i = 0; i < std::size(kCellColumns); ++i)
    EXPECT_TRUE(same_bits(a.values[i], b.values[i])) << what << " " << kCellColumns[i].name;
}

double largest_change(const Outcome& outcome) { return outcome[CellColumn::largest_change].front(); }

TEST_P(Evaluate, IdentityIsBitwiseZeroAmongOtherCells) {
  const DepthPlan plan =
      make_depth_plan(open_eval_model(session_config(GetParam()), golden_folder(GetParam())).config);
  const auto known_answers = make_known_answers(plan, {});
  const auto cells = edges(plan);
  std::vector<Comparison> list = comparisons_of(cells);
  const size_t first = list.size();
  for (const Comparison& comparison : comparisons_of(known_answers)) list.push_back(comparison);
  EvalSession session(session_config(GetParam()), needs_of(plan, list));
  const Evaluation evaluation = session.run(*tokens_, 5, list);
  for (size_t i = 0; i < known_answers.size(); ++i) {
    const Outcome& outcome = evaluation.outcomes[first + i];
    if (known_answers[i].limit == 0) {
      EXPECT_EQ(largest_change(outcome), 0.0) << known_answers[i].name;
      for (const CellColumn sums :
           {CellColumn::delta_nll, CellColumn::kl, CellColumn::flips, CellColumn::hit_change})
        EXPECT_EQ(outcome[sums], std::vector<double>(5, 0.0)) << known_answers[i].name;
    }
    EXPECT_TRUE(known_answers[i].passes(largest_change(outcome))) << known_answers[i].name;
  }
  // Doubling every source is undone by the norm that reads h, up to eps; uniform weights are another
  // function.
  EXPECT_LT(largest_change(evaluation.outcomes[first + 2]), 0.05);
  EXPECT_GT(largest_change(evaluation.outcomes[first + 3]), 0.05);
}

TEST_P(Evaluate, ReusedStatesGiveTheFullRunBitForBit) {
  EvalSession session(session_config(GetParam()));
  const auto cells = edges(session.model->plan());
  std::vector<Comparison> reused = comparisons_of(cells), full = reused;
  for (Comparison& comparison : full) comparison.first_site = 0;
  const Evaluation a = session.run(*tokens_, 5, reused), b = session.run(*tokens_, 5, full);
  double largest = 0;
  for (size_t i = 0; i < reused.size(); ++i) {
    expect_equal(a.outcomes[i], b.outcomes[i], reused[i].name);
    largest = std::max(largest, largest_change(a.outcomes[i]));
  }
  EXPECT_GT(largest, 0.1);  // the cells do something
}

TEST_P(Evaluate, OrderOfCellsDoesNotMatter) {
  EvalSession session(session_config(GetParam()));
  const auto cells = edges(session.model->plan());
  std::vector<Comparison> list = comparisons_of(cells), reversed = list;
  std::reverse(reversed.begin(), reversed.end());
  const Evaluation a = session.run(*tokens_, 4, list), b = session.run(*tokens_, 4, reversed);
  for (size_t i = 0; i < std::size(kCleanColumns); ++i)
    EXPECT_TRUE(same_bits(a.clean.values[i], b.clean.values[i])) << kCleanColumns[i].name;
  for (size_t i = 0; i < list.size(); ++i)
    expect_equal(a.outcomes[i], b.outcomes[list.size() - 1 - i], list[i].name);
}

TEST_P(Evaluate, BatchSizeDoesNotMatter) {
  EvalSession one(session_config(GetParam(), 1)), three(session_config(GetParam(), 3));
  const auto cells = edges(one.model->plan());
  const auto list = comparisons_of(cells);
  RoutingTrace trace_one(one.model->plan()), trace_three(three.model->plan());
  const Evaluation a = one.run(*tokens_, 8, list, &trace_one), b = three.run(*tokens_, 8, list, &trace_three);
  const std::vector<double>&nll_a = a.clean[CleanColumn::nll], &nll_b = b.clean[CleanColumn::nll];
  ASSERT_EQ(nll_a.size(), 56u);
  // Matrix products round differently for another number of rows.
  for (size_t i = 0; i < nll_a.size(); ++i)
    EXPECT_NEAR(nll_a[i], nll_b[i], tolerance::kGoldenLoss * std::max(1.0, nll_a[i]));
  for (size_t i = 0; i < list.size(); ++i)
    for (size_t s = 0; s < 8; ++s)
      EXPECT_NEAR(a.outcomes[i][CellColumn::delta_nll][s], b.outcomes[i][CellColumn::delta_nll][s], 1e-3)
          << list[i].name;
  EXPECT_EQ(trace_one.tokens(), trace_three.tokens());
  EXPECT_NEAR(trace_one.entropy(2), trace_three.entropy(2), 1e-6);
}

TEST_P(Evaluate, DivergenceIsNeverNegative) {
  EvalSession session(session_config(GetParam()));
  const auto cells = edges(session.model->plan());
  const Evaluation evaluation = session.run(*tokens_, 3, comparisons_of(cells));
  for (const Outcome& outcome : evaluation.outcomes)
    for (double kl : outcome[CellColumn::kl]) EXPECT_GE(kl, 0.0);
}

INSTANTIATE_TEST_SUITE_P(Cases, Evaluate, testing::Values("cumulative", "reset", "kimi_full"),
                         [](const auto& test) { return std::string(test.param); });

TEST(Trace, MomentsAgreeWithTwoPasses) {
  const TempFolder folder;
  write_shard(folder / "tokens.bin", random_tokens(80));
  const TokenStream tokens({(folder / "tokens.bin")}, 97);
  EvalSession session(session_config("kimi", 3));
  const DepthPlan& plan = session.model->plan();
  const Sequences sequences = session.windows(tokens, 10);
  RoutingTrace trace(plan);
  std::vector<std::vector<float>> all(plan.sites.size());
  for (const SequenceRange& batch :
       {SequenceRange{0, 3}, SequenceRange{3, 3}, SequenceRange{6, 3}, SequenceRange{9, 1}}) {
    session.evaluator->start(session.stream, sequences, batch);
    trace.add(session.evaluator->clean(session.stream, {}), batch.size * 7);
    for (size_t site = 0; site < plan.sites.size(); ++site) {
      const auto weights = test::host_values(session.model->trace(static_cast<int>(site)).weights);
      all[site].insert(all[site].end(), weights.begin(), weights.end());
    }
  }
  for (int site = 0; site < static_cast<int>(plan.sites.size()); ++site) {
    const int n = plan.sites[site].num_sources();
    ASSERT_EQ(all[site].size(), 70u * n);
    double entropy = 0, mass = 0;
    for (float a : all[site])
      if (a > 0) entropy -= a * std::log(static_cast<double>(a)) / 70;
    EXPECT_NEAR(trace.entropy(site), entropy, 1e-12);
    for (int j = 0; j < n; ++j) {
      double mean = 0, squares = 0;
      for (int i = 0; i < 70; ++i) mean += all[site][i * n + j] / 70.0;
      for (int i = 0; i < 70; ++i) squares += std::pow(all[site][i * n + j] - mean, 2) / 70;
      EXPECT_NEAR(trace.moments(site, j).mean, mean, 1e-14);
      EXPECT_NEAR(trace.moments(site, j).std(), std::sqrt(squares), 1e-12);
      mass += trace.moments(site, j).mean;
    }
    EXPECT_NEAR(mass, 1.0, 1e-6);
  }
  EXPECT_EQ(trace.moments(0, 0).std(), 0.0);  // kimi's first site has one source
  double total = 0;
  for (Family family : {Family::embedding, Family::older, Family::recent, Family::current})
    total += trace.family_mass(family, Sublayer::mlp, Band::late);
  EXPECT_NEAR(total, 1.0, 1e-6);
}

}  // namespace
}  // namespace depthroute
