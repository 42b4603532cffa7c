// Forward passes that an evaluation takes, counted on the plan of a 0.6B model.
#include <gtest/gtest.h>

#include <numeric>

#include "eval/cells/grid.h"
#include "eval/input.h"
#include "eval/measure/work_plan.h"
#include "tests/eval/eval_fixture.h"

namespace depthroute {
namespace {

constexpr int64_t kLength = 2048;

class Cost : public testing::TestWithParam<Variant> {
 protected:
  static ModelConfig shape(int64_t vocab) {
    ModelConfig config;
    config.vocab_size = vocab;
    config.residual.variant = GetParam();
    return config;
  }
  static GridConfig families(Intervention intervention) {
    GridConfig grid;
    grid.families = values<Family>();
    grid.sublayers = {Sublayer::attn, Sublayer::mlp};
    grid.bands = values<Band>();
    grid.interventions = {intervention};
    return grid;
  }
  static GridConfig edges() {
    GridConfig grid;
    grid.edges = EdgeChoice::all;
    grid.interventions = {Intervention::mask};
    return grid;
  }
  /// Mean cost of a cell, against one full pass per cell; cells that do not run cost nothing.
  double mean_cost(const GridConfig& grid, int64_t vocab, const std::string& name) {
    const ModelConfig config = shape(vocab);
    const DepthPlan plan = make_depth_plan(config);
    const std::vector<Cell> cells = resolve_cells({grid}, {}, plan);
    const Comparisons comparisons = make_comparisons(plan, cells, {}, "", "");
    const std::vector<double> costs = costs_of(comparisons.list, config, kLength);
    // A cell by itself: a pass from the embedding on, its output head and the clean run's.
    ModelConfig headless = config;
    headless.vocab_size = 0;
    const double layers = Qwen3::train_flops_per_token(headless, kLength),
                 whole = Qwen3::train_flops_per_token(config, kLength);
    const double alone = (whole + (whole - layers)) / whole, clean = Evaluator::cost(config, kLength, 0);
    const double total = std::accumulate(costs.begin(), costs.end(), 0.0) * clean / alone;
    const auto count = static_cast<double>(cells.size());
    RecordProperty(name + "_cells", std::to_string(cells.size()));
    RecordProperty(name + "_measured", std::to_string(costs.size()));
    RecordProperty(name + "_passes_per_cell", std::to_string(total / count));
    return total / count;
  }
};

// A cell of a family starts with its band, an edge at its site: 2/3 and, weighted by sources, 3/8 of the layers on
// average. The clean run's output head is shared by kComparedAtOnce cells.
TEST_P(Cost, IsBelowOnePassPerCell) {
  EXPECT_LT(mean_cost(families(Intervention::mask), 512, "grid_small_vocabulary"), 0.62);
  EXPECT_LT(mean_cost(edges(), 512, "edges_small_vocabulary"), 0.40);
  EXPECT_LT(mean_cost(families(Intervention::mask), 151936, "grid"), 0.60);
  EXPECT_LT(mean_cost(edges(), 151936, "edges"), 0.46);
}

TEST_P(Cost, OfResamplingIsOnePassPerDonor) {
  const double mask = mean_cost(families(Intervention::mask), 151936, "mask");
  const double resample = mean_cost(families(Intervention::resample), 151936, "resample");
  EXPECT_NEAR(resample, 5 * mask, 0.01);  // a site's only source can be replaced but not masked
  EXPECT_LT(resample, 5.5);
}

INSTANTIATE_TEST_SUITE_P(Variants, Cost, testing::Values(Variant::cumulative, Variant::reset, Variant::kimi),
                         [](const auto& test) { return std::string(to_string(test.param)); });

}  // namespace
}  // namespace depthroute
