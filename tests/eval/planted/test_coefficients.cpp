// Coefficients of outputs in a read: against states written out as sums of outputs, and against a model whose
// every sublayer marks its output.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "eval/analysis/coefficients.h"
#include "tests/eval/planted/planted_run.h"

namespace depthroute {
namespace {

using P = PlantedModel;

/// What a site reads under a change, with outputs as unit vectors: the model's own sums, step by step.
std::vector<double> slow_coefficients(const DepthPlan& plan, int site, const std::vector<double>& weights,
                                      const SiteChange& change) {
  const size_t outputs = static_cast<size_t>(plan.num_sublayers()) + 1;
  std::vector<std::vector<double>> states(1, std::vector<double>(outputs, 0.0));
  states[0][0] = 1;
  for (int s = 0; s < plan.num_sublayers(); ++s) {
    std::vector<double> next = states.back();
    if (plan.sites[s].restart) std::ranges::fill(next, 0.0);
    next[static_cast<size_t>(s) + 1] += 1;
    states.push_back(next);
  }
  std::vector<double> read(outputs, 0.0);
  for (size_t j = 0; j < weights.size(); ++j) {
    std::vector<double> content = states[plan.sites[site].sources[j]];
    for (const Substitution& s : change.substitutions) {
      if (s.source != static_cast<int>(j) || s.what == Replaced::keys) continue;
      if (s.content.kind == ContentKind::source)
        content = states[plan.sites[site].sources[s.content.source]];
      else
        std::ranges::fill(content, 0.0);  // no output of this token
    }
    const double scale = change.scale.empty() ? 1 : static_cast<double>(change.scale[j]);
    for (size_t i = 0; i < outputs; ++i) read[i] += scale * weights[j] * content[i];
  }
  return read;
}

SiteChange replaced(int source, Replaced what, Content content) {
  SiteChange change;
  change.substitutions = {{source, what, content}};
  return change;
}

class Coefficients : public testing::TestWithParam<Variant> {};

TEST_P(Coefficients, AreThoseOfStatesWrittenOut) {
  for (const int64_t per_block : {1, 2, 4, 5}) {
    ModelConfig config;
    config.num_layers = 6;
    config.residual = {.variant = GetParam(), .sublayers_per_block = per_block};
    const DepthPlan plan = make_depth_plan(config);
    const auto outputs = outputs_of_states(plan);
    ASSERT_EQ(output_names(plan).size(), 13u);
    for (int site = 0; site < static_cast<int>(plan.sites.size()); ++site) {
      const int n = plan.sites[site].num_sources();
      std::vector<double> weights;
      for (int j = 0; j < n; ++j) weights.push_back(2.0 * (j + 1) / (n * (n + 1)));
      std::vector<SiteChange> changes(4);
      changes[1].scale.assign(static_cast<size_t>(n), 1.0f);
      changes[1].scale[0] = 0;
      changes[2] = replaced(0, Replaced::both, {ContentKind::donor});
      changes[3] = replaced(0, Replaced::keys, {ContentKind::mean});
      if (n > 1) changes.push_back(replaced(0, Replaced::values, {ContentKind::source, n - 1}));
      for (const SiteChange& change : changes) {
        const std::vector<double> expected = slow_coefficients(plan, site, weights, change);
        const std::vector<double> got = coefficients(plan.sites[site], outputs, weights, &change);
        ASSERT_EQ(got.size(), expected.size());
        for (size_t i = 0; i < got.size(); ++i)
          EXPECT_NEAR(got[i], expected[i], 1e-12) << per_block << " " << plan.site_name(site) << " output "
                                                  << i << " " << canonical_text({&change, 1});
      }
      const std::vector<double> clean = coefficients(plan.sites[site], outputs, weights, nullptr);
      EXPECT_EQ(clean, coefficients(plan.sites[site], outputs, weights, changes.data()));
      if (GetParam() == Variant::cumulative) {
        EXPECT_NEAR(clean[0], 1, 1e-12);
      }
      if (GetParam() != Variant::cumulative && per_block == 1) {
        // Every state is one output, but for S1 in reset, which holds the embedding as well.
        double sum = 0;
        for (const double c : clean) sum += c;
        EXPECT_NEAR(sum, GetParam() == Variant::reset && site > 0 ? 1 + weights[1] : 1, 1e-12);
      }
    }
  }
}

/// The reader copies what it reads of every tag into channels that nothing else writes.
TEST_P(Coefficients, AreWhatTheModelReads) {
  P model(GetParam());
  const int reader = 11, outputs = 12;
  model.weigh(reader, {0.05, 0.1, 0.15, 0.2, 0.12, 0.13, 0.25});
  for (int i = 0; i < outputs; ++i) model.write(reader, P::tag(i), P::code(i), 1);
  std::vector<CellConfig> cells;
  for (const Intervention intervention :
       {Intervention::mask, Intervention::only, Intervention::bias, Intervention::uniform,
        Intervention::schedule, Intervention::hold, Intervention::permute}) {
    CellConfig cell = cell_at(model, to_string(intervention), intervention, reader, 2);
    if (takes_value(intervention)) cell.value = 1.5;
    if (intervention == Intervention::permute) cell.source_positions = {0, 2, 5};
    cells.push_back(cell);
  }
  cells.push_back(cell_at(model, "embedding", Intervention::mask, reader, 0));
  PlantedRun run(model, {}, cells);
  EvalSession& session = run.session();
  const auto states = outputs_of_states(model.plan());
  const Site& site = model.plan().sites[reader];
  const auto read = [&] {
    const std::vector<float> state = test::host_values(session.model->state(reader + 1));
    std::vector<double> amounts;
    for (int i = 0; i < outputs; ++i) amounts.push_back(state[static_cast<size_t>(P::code(i))]);
    return amounts;
  };
  session.evaluator->start(session.stream, run.sequences(), {0, 8});
  const std::vector<double> clean = read();
  const size_t widest = model.plan().max_sources();
  double largest = 0;
  for (const Cell& cell : run.cells()) {
    const Comparison comparison = {cell.name, cell.name, cell.first_site, cell.site_changes};
    const Comparison* const one[] = {&comparison};
    const Outcome outcome = session.evaluator->compare(session.stream, one).front();
    const auto sums = outcome[CellColumn::weight].begin() + static_cast<int64_t>(reader * widest);
    std::vector<double> weights;
    for (int j = 0; j < site.num_sources(); ++j) weights.push_back(sums[j] / 56);
    const std::vector<double> expected = coefficients(site, states, weights, &cell.site_changes[reader]);
    const std::vector<double> got = read();
    for (int i = 0; i < outputs; ++i) {
      EXPECT_NEAR(got[i], expected[i], 1e-4) << cell.name << " output " << i;
      largest = std::max(largest, std::abs(got[i] - clean[i]));
    }
    if (GetParam() != Variant::cumulative || cell.name != "embedding") continue;
    // In cumulative the embedding is in every source: masking it raises everything else.
    EXPECT_NEAR(got[0], 1, 1e-4);
    for (int i = 1; i < outputs; ++i) EXPECT_NEAR(got[i], clean[i] / 0.95, 1e-4) << i;
  }
  EXPECT_GT(largest, 0.3);
}

INSTANTIATE_TEST_SUITE_P(Variants, Coefficients,
                         testing::Values(Variant::cumulative, Variant::reset, Variant::kimi),
                         [](const auto& test) { return std::string(to_string(test.param)); });

TEST(CoefficientsOfCells, OfTheEmbeddingAreOneInCumulativeAndTheOthersRise) {
  const TempFolder folder;
  write_shard(folder / "tokens.bin", random_tokens(60));
  const TokenStream tokens({folder / "tokens.bin"}, 97);
  EvalSession session(session_config("cumulative"));
  const DepthPlan& plan = session.model->plan();
  const auto outputs = outputs_of_states(plan);
  GridConfig grid;
  grid.families = {Family::embedding};
  grid.sublayers = {Sublayer::attn, Sublayer::mlp};
  grid.bands = values<Band>();
  grid.interventions = {Intervention::mask};
  const std::vector<Cell> cells = resolve_cells({grid}, {}, plan);
  RoutingTrace trace(plan);
  const Evaluation evaluation = session.run(tokens, 4, comparisons_of(cells), &trace);
  const size_t widest = plan.max_sources();
  size_t at = 0;
  int raised = 0;
  for (const Cell& cell : cells) {
    if (!cell.runs()) continue;
    const std::vector<double>& sums = evaluation.outcomes[at++][CellColumn::weight];
    for (int site = 0; site < static_cast<int>(plan.sites.size()); ++site) {
      std::vector<double> clean_weights, weights;
      for (int j = 0; j < plan.sites[site].num_sources(); ++j) {
        clean_weights.push_back(trace.moments(site, j).mean);
        weights.push_back(sums[site * widest + j] / 28);
      }
      const auto clean = coefficients(plan.sites[site], outputs, clean_weights, nullptr);
      const auto under = coefficients(plan.sites[site], outputs, weights, &cell.site_changes[site]);
      EXPECT_NEAR(clean[0], 1, 1e-6) << cell.name << " " << plan.site_name(site);
      EXPECT_NEAR(under[0], 1, 1e-6) << cell.name << " " << plan.site_name(site);
      if (site != cell.first_site || site == 0) continue;
      for (int i = 1; i <= site; ++i) EXPECT_GT(under[i], clean[i]) << cell.name << " output " << i;
      ++raised;
    }
  }
  EXPECT_GE(raised, 5);
}

}  // namespace
}  // namespace depthroute
