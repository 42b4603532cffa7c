// Sizes a configuration asks for: counted, or refused.
#include <gtest/gtest.h>

#include <limits>

#include "configs/base/sizes.h"
#include "configs/plan_size.h"
#include "tests/configs/support.h"

namespace depthroute::test {
namespace {

TEST(Sizes, AreExactOrAnError) {
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  EXPECT_EQ(checked_product(kMost, 1), kMost);
  EXPECT_EQ(checked_product(int64_t{1} << 31, int64_t{1} << 31), int64_t{1} << 62);
  EXPECT_EQ(checked_product(3, 5, 7, 11), 1155);
  EXPECT_EQ(checked_sum(kMost - 1, 1), kMost);
  EXPECT_EQ(checked_round_up(257, 256), 512);
  EXPECT_EQ(checked_round_up(kMost - 255, 256), kMost - 255);
  EXPECT_THROW(checked_product(int64_t{1} << 32, int64_t{1} << 31), ConfigError);
  EXPECT_THROW(checked_product(int64_t{1} << 32, int64_t{1} << 32, 0), ConfigError);
  EXPECT_THROW(checked_sum(kMost, 1), ConfigError);
  EXPECT_THROW(checked_round_up(kMost - 254, 256), ConfigError);
}

TEST(Sizes, OfAModelAndABatchThatNothingCanHoldAreRefusedAtTheirKey) {
  const std::vector<std::string> huge = {
      "train.micro_batch=200000000", "train.global_batch=200000000", "train.steps=1",
      "optimizer.warmup=0",          "data.seq_len=50000",           "model.intermediate_size=1000000"};
  EXPECT_EQ(train_error(kTrain, huge),
            "--set train.micro_batch=200000000: the model and batch of this configuration need more than "
            "2^63 bytes "
            "of memory: use a smaller model, train.micro_batch or data.seq_len");
  EXPECT_EQ(
      train_error(kTrain, {"model.hidden_size=131072", "model.num_layers=1000",
                           "model.residual.sublayers_per_block=100", "distributed.bucket_mib=1"}),
      "--set distributed.bucket_mib=1: distributed.bucket_mib = 1 cuts the gradients of this model into more "
      "than 65536 buckets: raise it, or use a smaller model");
}

TEST(Sizes, OfThePresetsAreFarFromTheBound) {
  for (const auto& preset : presets()) {
    if (is_eval(preset)) continue;
    EXPECT_LT(plan_bytes_bound(read_train_config(preset)), 0x1p50) << preset;
  }
}

}  // namespace
}  // namespace depthroute::test
