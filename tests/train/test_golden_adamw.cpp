// AdamW golden cases (SPEC §3, §7): loss and gradient norm of every step, and all parameters after the last
// one, through the class the trainer runs. In micro-batches of 4, and of 1 and 3 (the last one short):
// accumulation changes nothing.
#include <gtest/gtest.h>

#include <algorithm>
#include <tuple>

#include "data/model_folder.h"
#include "tests/golden.h"
#include "tests/tolerances.h"
#include "train/model/weights.h"
#include "train/step.h"

namespace depthroute {
namespace {

class GoldenAdamw : public testing::TestWithParam<std::tuple<const char*, int64_t>> {};

TEST_P(GoldenAdamw, LossesNormsAndParameters) {
  const auto [name, micro_batch] = GetParam();
  const golden::Expected expected(name);
  const std::vector<int64_t> shape = expected.shape("adamw/batches");  // [step, B, T+1]
  const std::vector<int32_t> windows = expected.read_int("adamw/batches");
  const ModelFolder folder(golden::folder(name));
  const auto attribute = [&expected = expected](const char* key) { return expected.attribute("adamw", key); };

  TrainConfig config;
  config.model = folder.config();
  config.data.seq_len = shape[2] - 1;
  config.train.steps = shape[0];
  config.train.global_batch = shape[1];
  config.train.micro_batch = micro_batch;
  config.optimizer = {.lr = attribute("lr"),
                      .lr_min = attribute("lr_min"),
                      .schedule = "cosine",
                      .warmup = static_cast<int64_t>(attribute("warmup")),
                      .beta1 = attribute("beta1"),
                      .beta2 = attribute("beta2"),
                      .eps = attribute("eps"),
                      .weight_decay = attribute("weight_decay"),
                      .max_norm = attribute("max_norm")};
  ASSERT_EQ(static_cast<int64_t>(attribute("total")), shape[0]);

  TrainingStep step(config, Device::cpu);
  step.allocate();
  load_parameters(step.stream(), folder, step.layout(), step.model().parameters());

  const std::vector<double> losses = expected.read("adamw/loss"), norms = expected.read("adamw/grad_norm");
  for (int64_t t = 1; t <= shape[0]; ++t) {
    const int32_t* batch = windows.data() + (t - 1) * shape[1] * shape[2];
    const StepResult result =
        step.run(t, [&](int64_t first, int64_t count, std::span<int32_t> tokens, std::span<int32_t> targets) {
          for (int64_t b = 0; b < count; ++b) {
            const int32_t* window = batch + (first + b) * shape[2];
            std::copy(window, window + shape[2] - 1, tokens.begin() + b * (shape[2] - 1));
            std::copy(window + 1, window + shape[2], targets.begin() + b * (shape[2] - 1));
          }
        });
    EXPECT_TRUE(result.applied);
    EXPECT_NEAR(result.loss, losses[t - 1], tolerance::kGoldenTrainedLoss) << "step " << t;
    EXPECT_NEAR(result.grad_norm / norms[t - 1], 1.0, tolerance::kGoldenGradient) << "step " << t;
  }
  for (const Parameter& parameter : step.layout().all()) {
    const std::vector<double> values = expected.read("adamw/params/" + parameter.name);
    const Tensor ours = step.layout().view(step.model().parameters(), parameter);
    for (size_t i = 0; i < values.size(); ++i)
      ASSERT_NEAR(ours.data<float>()[i], values[i], tolerance::kGoldenTrainedParameter)
          << parameter.name << " " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, GoldenAdamw,
                         testing::Combine(testing::ValuesIn(golden::kCases), testing::Values(1, 3, 4)),
                         [](const auto& test) {
                           return std::string(std::get<0>(test.param)) + "_micro" +
                                  std::to_string(std::get<1>(test.param));
                         });

}  // namespace
}  // namespace depthroute
