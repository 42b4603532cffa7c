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
  /// Views of `cells`, which must outlive them.
  static std::vector<Comparison> comparisons(const std::vector<Cell>& cells) {
    std::vector<Comparison> list;
    for (const Cell& cell : cells)
      if (cell.runs()) list.push_back({cell.name, cell.first_site, cell.site_changes});
    return list;
  }

  TempFolder folder_;
  std::unique_ptr<TokenStream> tokens_;
};

using Evaluate = EvaluateTest;

void expect_equal(const Outcome& a, const Outcome& b, const std::string& what) {
  EXPECT_EQ(a.delta_nll, b.delta_nll) << what;
  EXPECT_EQ(a.kl, b.kl) << what;
  EXPECT_EQ(a.flips, b.flips) << what;
}

TEST_P(Evaluate, IdentityIsBitwiseZeroAmongOtherCells) {
  EvalSession session(session_config(GetParam()));
  const auto known_answers = make_known_answers(session.model->plan(), {});
  const auto cells = edges(session.model->plan());
  std::vector<Comparison> list = comparisons(cells);
  const size_t first = list.size();
  for (const KnownAnswer& known_answer : known_answers)
    list.push_back({known_answer.name, known_answer.first_site, known_answer.site_changes});
  const Evaluation evaluation = session.run(*tokens_, 5, list);
  for (size_t i = 0; i < known_answers.size(); ++i) {
    const Outcome& outcome = evaluation.outcomes[first + i];
    if (known_answers[i].limit == 0) {
      EXPECT_EQ(outcome.largest_change, 0.0) << known_answers[i].name;
      EXPECT_EQ(outcome.flips, std::vector<double>(5, 0.0)) << known_answers[i].name;
    }
    EXPECT_TRUE(known_answers[i].passes(outcome.largest_change)) << known_answers[i].name;
  }
  // Doubling every source is undone by the norm that reads h, up to eps; uniform weights are another
  // function.
  EXPECT_LT(evaluation.outcomes[first + 2].largest_change, 0.05);
  EXPECT_GT(evaluation.outcomes[first + 3].largest_change, 0.05);
}

TEST_P(Evaluate, ReusedStatesGiveTheFullRunBitForBit) {
  EvalSession session(session_config(GetParam()));
  const auto cells = edges(session.model->plan());
  std::vector<Comparison> reused = comparisons(cells), full = reused;
  for (Comparison& comparison : full) comparison.first_site = 0;
  const Evaluation a = session.run(*tokens_, 5, reused), b = session.run(*tokens_, 5, full);
  double largest = 0;
  for (size_t i = 0; i < reused.size(); ++i) {
    expect_equal(a.outcomes[i], b.outcomes[i], reused[i].name);
    largest = std::max(largest, a.outcomes[i].largest_change);
  }
  EXPECT_GT(largest, 0.1);  // the cells do something
}

TEST_P(Evaluate, OrderOfCellsDoesNotMatter) {
  EvalSession session(session_config(GetParam()));
  const auto cells = edges(session.model->plan());
  std::vector<Comparison> list = comparisons(cells), reversed = list;
  std::reverse(reversed.begin(), reversed.end());
  const Evaluation a = session.run(*tokens_, 4, list), b = session.run(*tokens_, 4, reversed);
  EXPECT_EQ(a.clean_nll, b.clean_nll);
  for (size_t i = 0; i < list.size(); ++i)
    expect_equal(a.outcomes[i], b.outcomes[list.size() - 1 - i], list[i].name);
}

TEST_P(Evaluate, BatchSizeDoesNotMatter) {
  EvalSession one(session_config(GetParam(), 1)), three(session_config(GetParam(), 3));
  const auto cells = edges(one.model->plan());
  const auto list = comparisons(cells);
  RoutingTrace trace_one(one.model->plan()), trace_three(three.model->plan());
  const Evaluation a = one.run(*tokens_, 8, list, &trace_one), b = three.run(*tokens_, 8, list, &trace_three);
  ASSERT_EQ(a.clean_nll.size(), 56u);
  // Matrix products round differently for another number of rows.
  for (size_t i = 0; i < a.clean_nll.size(); ++i)
    EXPECT_NEAR(a.clean_nll[i], b.clean_nll[i], tolerance::kGoldenLoss * std::max(1.0f, a.clean_nll[i]));
  for (size_t i = 0; i < list.size(); ++i)
    for (size_t s = 0; s < 8; ++s)
      EXPECT_NEAR(a.outcomes[i].delta_nll[s], b.outcomes[i].delta_nll[s], 1e-3) << list[i].name;
  EXPECT_EQ(trace_one.tokens(), trace_three.tokens());
  EXPECT_NEAR(trace_one.entropy(2), trace_three.entropy(2), 1e-6);
}

TEST_P(Evaluate, DivergenceIsNeverNegative) {
  EvalSession session(session_config(GetParam()));
  const auto cells = edges(session.model->plan());
  const Evaluation evaluation = session.run(*tokens_, 3, comparisons(cells));
  for (const Outcome& outcome : evaluation.outcomes)
    for (double kl : outcome.kl) EXPECT_GE(kl, 0.0);
}

INSTANTIATE_TEST_SUITE_P(Cases, Evaluate, testing::Values("cumulative", "reset", "kimi_full"),
                         [](const auto& test) { return std::string(test.param); });

TEST(Trace, MomentsAgreeWithTwoPasses) {
  const TempFolder folder;
  write_shard(folder / "tokens.bin", random_tokens(80));
  const TokenStream tokens({(folder / "tokens.bin")}, 97);
  EvalSession session(session_config("kimi", 3));
  const DepthPlan& plan = session.model->plan();
  RoutingTrace trace(plan);
  std::vector<std::vector<float>> all(plan.sites.size());
  for (const SequenceRange& batch :
       {SequenceRange{0, 3}, SequenceRange{3, 3}, SequenceRange{6, 3}, SequenceRange{9, 1}}) {
    session.evaluator->start(session.stream, tokens, batch);
    trace.add(measure_routing(session.stream, *session.model, false));
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
