#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/kernels/host_tensor.h"
#include "tests/train/tiny_run.h"
#include "train/validation.h"

namespace depthroute {
namespace {

using testing_support::tiny_config;

class ValidationTest : public testing_support::TinyRun {};

TEST_F(ValidationTest, FreshWeightsGiveTheRecencyScheduleExactly) {
  // Pseudo-queries are zero, so the weights are the schedule of the bias and known in closed form.
  constexpr double kBias = 0.75;
  for (const Variant variant : {Variant::cumulative, Variant::reset, Variant::kimi}) {
    TrainConfig config = tiny_config();
    config.model.num_layers = 5;
    config.model.residual = {.variant = variant, .sublayers_per_block = 2};
    TrainingStep step(config, test::device());
    step.allocate();
    initialize_parameters(step.layout(), 5, kBias, step.model().parameters());
    const TokenStream tokens({path("val.bin")}, 256);
    const Batches data(tokens, config.data.seq_len, DataOrder::sequential, 1);
    const nlohmann::ordered_json result = validate(*make_single_world(), step, data, 1000);
    EXPECT_EQ(result["val_tokens"], 5 * 32) << "all of the five windows there are";

    std::array<double, kNumFamilies> expected{};
    int routed = 0;
    for (const Site& site : step.model().plan().sites) {
      if (!site.routed) continue;
      ++routed;
      const ScheduleWeights weights = schedule_weights(site.num_sources(), kBias);
      for (int j = 0; j < site.num_sources(); ++j)
        expected[static_cast<int>(site.family(j))] +=
            j + 1 == site.num_sources() ? weights.current : weights.other;
    }
    double total = 0;
    for (int f = 0; f < kNumFamilies; ++f) {
      const double mass = result["routing_mass"][to_string(static_cast<Family>(f))].get<double>();
      EXPECT_NEAR(mass, expected[f] / routed, 1e-6);
      total += mass;
    }
    EXPECT_NEAR(total, 1, 1e-6);
  }
}

TEST_F(ValidationTest, AShortLastMicroBatchCountsOnce) {
  TrainConfig config = tiny_config();
  const TokenStream tokens({path("val.bin")}, 256);
  const Batches data(tokens, config.data.seq_len, DataOrder::sequential, 1);
  double losses[2] = {};
  for (const int64_t micro_batch : {1, 4}) {
    config.train.micro_batch = micro_batch;
    TrainingStep step(config, test::device());
    step.allocate();
    initialize_parameters(step.layout(), 5, 0, step.model().parameters());
    losses[micro_batch == 4] = validate(*make_single_world(), step, data, 5)["val_loss"].get<double>();
  }
  EXPECT_NEAR(losses[0], losses[1], 1e-6);
}

TEST_F(ValidationTest, PlainModelsHaveNoRoutingMass) {
  TrainConfig config = tiny_config();
  config.model.residual.variant = Variant::additive;
  TrainingStep step(config, test::device());
  step.allocate();
  initialize_parameters(step.layout(), 5, 0, step.model().parameters());
  const TokenStream tokens({path("val.bin")}, 256);
  const Batches data(tokens, config.data.seq_len, DataOrder::sequential, 1);
  EXPECT_FALSE(validate(*make_single_world(), step, data, 2).contains("routing_mass"));
}

}  // namespace
}  // namespace depthroute
