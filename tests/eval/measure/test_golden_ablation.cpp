// Every mask and zero cell of the golden cases (tests/golden/README.md), per token, with the counts of sites.
#include <gtest/gtest.h>

#include <cmath>
#include <memory>

#include "eval/cells/grid.h"
#include "eval/results/hdf5.h"
#include "tests/eval/eval_fixture.h"
#include "tests/tolerances.h"
#include "tests/train/model/model_fixture.h"

namespace depthroute {
namespace {

class GoldenAblation : public testing::TestWithParam<const char*> {};

GridConfig whole_grid() {
  GridConfig config;
  config.families = values<Family>();
  config.sublayers = {Sublayer::attn, Sublayer::mlp};
  config.bands = values<Band>();
  config.interventions = {Intervention::mask, Intervention::zero};
  return config;
}

TEST_P(GoldenAblation, EveryCell) {
  const Hdf5Reader expected(golden_folder(GetParam()) + "/expected.h5");
  const std::vector<int64_t> shape = expected.shape("/tokens"), tokens = expected.integers("/tokens");
  Batch batch(std::vector<int32_t>(tokens.begin(), tokens.end()), shape[0], shape[1] - 1);
  const std::unique_ptr<TestModel> tested =
      TestModel::load(golden_folder(GetParam()), {shape[0], shape[1] - 1, false});
  Qwen3& model = tested->model;
  const auto cells = resolve_cells({whole_grid()}, {}, model.plan());
  ASSERT_EQ(cells.size(), 48u);
  int ran = 0;
  for (const Cell& cell : cells) {
    const std::string path = "/ablation/" + cell.name;
    EXPECT_EQ(cell.sites_ablated, expected.integer_attribute(path, "sites_ablated")) << cell.name;
    EXPECT_EQ(cell.sites_skipped, expected.integer_attribute(path, "sites_skipped")) << cell.name;
    ran += cell.runs();
    std::vector<SiteIntervention> interventions;
    for (const SiteChange& change : cell.site_changes)
      interventions.push_back({change.offset, change.scale, change.learned_logits, {}, {}, {}});
    model.forward(tested->stream, batch.input_tensor(), interventions);
    model.loss(tested->stream, batch.target_tensor());
    const std::vector<double> nll = expected.doubles(path);
    double mean = 0, expected_mean = 0;
    const std::vector<float> all = tested->nll();
    for (size_t i = 0; i < nll.size(); ++i) {
      const double ours = all[i];
      EXPECT_NEAR(ours, nll[i], tolerance::kGoldenAblatedNll * std::max(1.0, nll[i]))
          << cell.name << " token " << i;
      mean += ours / static_cast<double>(nll.size());
      expected_mean += nll[i] / static_cast<double>(nll.size());
    }
    EXPECT_NEAR(mean, expected_mean, tolerance::kGoldenLoss * std::max(1.0, expected_mean)) << cell.name;
  }
  EXPECT_GE(ran, 36);
}

INSTANTIATE_TEST_SUITE_P(Cases, GoldenAblation,
                         testing::Values("cumulative", "cumulative_full", "reset", "kimi", "kimi_full",
                                         "cumulative_no_qk_norm"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace depthroute
