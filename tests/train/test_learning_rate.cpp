#include <gtest/gtest.h>

#include <cmath>

#include "train/learning_rate.h"

namespace depthroute {
namespace {

OptimizerConfig schedule(const char* name, int64_t warmup) {
  OptimizerConfig config;
  config.lr = 2e-3;
  config.lr_min = 1e-4;
  config.schedule = name;
  config.warmup = warmup;
  return config;
}

TEST(Schedule, WarmupIsLinearUnderEverySchedule) {
  for (const char* name : {"cosine", "wsd", "constant"})
    for (int64_t t = 1; t <= 13; ++t)
      EXPECT_DOUBLE_EQ(learning_rate(schedule(name, 13), 101, t), 2e-3 * static_cast<double>(t) / 13) << name;
}

TEST(Schedule, CosineIsSymmetricAboutItsMiddleAndEndsAtTheMinimum) {
  const OptimizerConfig config = schedule("cosine", 10);
  for (int64_t t = 10; t <= 110; ++t)
    EXPECT_NEAR(learning_rate(config, 110, t) + learning_rate(config, 110, 120 - t), 2e-3 + 1e-4, 1e-17);
  EXPECT_DOUBLE_EQ(learning_rate(config, 110, 110), 1e-4);
  // 1/4 of the way: (1 + cos(pi/4)) / 2.
  EXPECT_NEAR(learning_rate(config, 110, 35), 1e-4 + 1.9e-3 * (1 + std::sqrt(0.5)) / 2, 1e-17);
}

TEST(Schedule, WsdHoldsThenFallsStraight) {
  OptimizerConfig config = schedule("wsd", 5);
  config.decay_fraction = 0.25;  // 20 of 80 steps
  EXPECT_DOUBLE_EQ(learning_rate(config, 80, 6), 2e-3);
  EXPECT_DOUBLE_EQ(learning_rate(config, 80, 60), 2e-3);
  for (int64_t i = 1; i <= 20; ++i)
    EXPECT_NEAR(learning_rate(config, 80, 60 + i), 2e-3 - 1.9e-3 * static_cast<double>(i) / 20, 1e-17);
}

TEST(Schedule, NoWarmupAndOneStepRuns) {
  EXPECT_DOUBLE_EQ(learning_rate(schedule("constant", 0), 1, 1), 2e-3);
  EXPECT_DOUBLE_EQ(learning_rate(schedule("cosine", 0), 1, 1), 1e-4);
  EXPECT_DOUBLE_EQ(learning_rate(schedule("wsd", 0), 1, 1), 2e-3);
  EXPECT_DOUBLE_EQ(learning_rate(schedule("cosine", 4), 4, 4), 2e-3);
}

}  // namespace
}  // namespace depthroute
