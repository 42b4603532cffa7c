#include <gtest/gtest.h>

#include <cmath>

#include "train/learning_rate.h"

namespace depthroute {
namespace {

OptimizerConfig optimizer(LearningRateDecay decay, int64_t warmup) {
  OptimizerConfig config;
  config.lr = 2e-3;
  config.lr_min = 1e-4;
  config.lr_decay = decay;
  config.warmup = warmup;
  return config;
}

TEST(LearningRate, WarmupIsLinearUnderEveryDecay) {
  for (const LearningRateDecay decay : values<LearningRateDecay>())
    for (int64_t t = 1; t <= 13; ++t)
      EXPECT_DOUBLE_EQ(learning_rate(optimizer(decay, 13), 101, t), 2e-3 * static_cast<double>(t) / 13)
          << to_string(decay);
}

TEST(LearningRate, CosineIsSymmetricAboutItsMiddleAndEndsAtTheMinimum) {
  const OptimizerConfig config = optimizer(LearningRateDecay::cosine, 10);
  for (int64_t t = 10; t <= 110; ++t)
    EXPECT_NEAR(learning_rate(config, 110, t) + learning_rate(config, 110, 120 - t), 2e-3 + 1e-4, 1e-17);
  EXPECT_DOUBLE_EQ(learning_rate(config, 110, 110), 1e-4);
  // 1/4 of the way: (1 + cos(pi/4)) / 2.
  EXPECT_NEAR(learning_rate(config, 110, 35), 1e-4 + 1.9e-3 * (1 + std::sqrt(0.5)) / 2, 1e-17);
}

TEST(LearningRate, WsdHoldsThenFallsStraight) {
  OptimizerConfig config = optimizer(LearningRateDecay::wsd, 5);
  config.decay_fraction = 0.25;  // 20 of 80 steps
  EXPECT_DOUBLE_EQ(learning_rate(config, 80, 6), 2e-3);
  EXPECT_DOUBLE_EQ(learning_rate(config, 80, 60), 2e-3);
  for (int64_t i = 1; i <= 20; ++i)
    EXPECT_NEAR(learning_rate(config, 80, 60 + i), 2e-3 - 1.9e-3 * static_cast<double>(i) / 20, 1e-17);
}

TEST(LearningRate, NoWarmupAndOneStepRuns) {
  EXPECT_DOUBLE_EQ(learning_rate(optimizer(LearningRateDecay::constant, 0), 1, 1), 2e-3);
  EXPECT_DOUBLE_EQ(learning_rate(optimizer(LearningRateDecay::cosine, 0), 1, 1), 1e-4);
  EXPECT_DOUBLE_EQ(learning_rate(optimizer(LearningRateDecay::wsd, 0), 1, 1), 2e-3);
  EXPECT_DOUBLE_EQ(learning_rate(optimizer(LearningRateDecay::cosine, 4), 4, 4), 2e-3);
}

}  // namespace
}  // namespace depthroute
