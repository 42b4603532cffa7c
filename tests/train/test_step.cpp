// Properties of one training step that hold for any weights.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "tests/kernels/op_test.h"
#include "tests/tolerances.h"
#include "tests/train/tiny_run.h"
#include "train/step.h"

namespace depthroute {
namespace {

using testing_support::tiny_config;

BatchSource random_batch(int64_t seq_len) {
  return [seq_len](int64_t first, int64_t count, std::span<int32_t> tokens, std::span<int32_t> targets) {
    for (int64_t i = 0; i < count; ++i) {
      std::mt19937 random(static_cast<uint32_t>(first + i));
      for (int64_t j = i * seq_len; j < (i + 1) * seq_len; ++j) {
        tokens[static_cast<size_t>(j)] = static_cast<int32_t>(random() % 256);
        targets[static_cast<size_t>(j)] = static_cast<int32_t>(random() % 256);
      }
    }
  };
}

void make_ready(TrainingStep& step) {
  step.allocate();
  initialize_parameters(step.layout(), 5, 0.25, step.model().parameters());
}

std::vector<float> values(const Tensor& block) { return test::host_values(block); }

TEST(Step, SplittingTheBatchChangesNothingButRounding) {
  TrainConfig config = tiny_config();
  config.train.global_batch = config.train.micro_batch = 12;
  TrainingStep whole(config, test::device());
  make_ready(whole);
  const StepResult expected = whole.run(1, random_batch(config.data.seq_len));
  const std::vector<float> gradient = values(whole.model().gradients());

  for (const int64_t micro_batch : {1, 4}) {
    config.train.micro_batch = micro_batch;
    TrainingStep split(config, test::device());
    make_ready(split);
    const StepResult result = split.run(1, random_batch(config.data.seq_len));
    EXPECT_NEAR(result.loss, expected.loss, 1e-6 * expected.loss);
    EXPECT_NEAR(result.grad_norm, expected.grad_norm, tolerance::kF32Backward * expected.grad_norm);
    const std::vector<float> other = values(split.model().gradients());
    double difference = 0, norm = 0;
    for (size_t i = 0; i < gradient.size(); ++i) {
      difference += std::pow(static_cast<double>(gradient[i]) - other[i], 2);
      norm += std::pow(static_cast<double>(gradient[i]), 2);
    }
    EXPECT_LT(std::sqrt(difference / norm), tolerance::kF32Backward) << "micro_batch " << micro_batch;
  }
}

TrainConfig deterministic_config() {
  TrainConfig config = tiny_config();
  config.deterministic = true;
  config.train = {.steps = 20, .global_batch = 24, .micro_batch = 1};
  config.distributed.shards = 8;
  return config;
}

TEST(Step, DeterministicSumsAreAPairwiseTreeOverShards) {
  TrainConfig config = deterministic_config();
  TrainingStep whole(config, test::device());
  make_ready(whole);
  const StepResult result = whole.run(1, random_batch(config.data.seq_len));
  const std::vector<float> sum = values(whole.model().gradients());

  // Each shard by itself: steps of three sequences.
  std::vector<std::vector<float>> shards;
  double loss = 0;
  TrainConfig part = config;
  part.deterministic = false;
  part.train.global_batch = 3;
  for (int64_t shard = 0; shard < 8; ++shard) {
    TrainingStep step(part, test::device());
    make_ready(step);
    const BatchSource all = random_batch(config.data.seq_len);
    const StepResult one = step.run(1, [&](int64_t first, int64_t count, auto tokens, auto targets) {
      all(3 * shard + first, count, tokens, targets);
    });
    loss += one.loss / 8;
    shards.push_back(values(step.model().gradients()));
  }
  EXPECT_NEAR(result.loss, loss, 1e-12 * loss);
  const size_t size = shards[0].size();
  std::vector<float> want(size);
  for (size_t i = 0; i < size; ++i) {
    const auto g = [&](int shard) { return shards[shard][i]; };
    want[i] = ((g(0) + g(1)) + (g(2) + g(3))) + ((g(4) + g(5)) + (g(6) + g(7)));
  }
  // The gradient of a mean over 24 sequences against that of means over 3: a factor of 8, exact in float32.
  ASSERT_GE(sum.size(), size);
  size_t different = 0;
  for (size_t i = 0; i < size; ++i) different += 8 * sum[i] != want[i];
  EXPECT_EQ(different, 0U);
}

TEST(Step, DeterministicMeansAnyNumberOfThreads) {
  if (test::on_cuda()) GTEST_SKIP() << "of the CPU backend";
  const TrainConfig config = deterministic_config();
  make_independent_of_threads(true);
  test::expect_independent_of_threads([&] {
    TrainingStep step(config, test::device());
    make_ready(step);
    std::vector<float> losses;
    for (int64_t t = 1; t <= 3; ++t) {
      const StepResult result = step.run(t, random_batch(config.data.seq_len));
      losses.push_back(static_cast<float>(result.loss));
      losses.push_back(static_cast<float>(result.grad_norm));
    }
    test::F32 parameters({step.model().parameters().numel()}), log({static_cast<int64_t>(losses.size())});
    std::ranges::copy(values(step.model().parameters()), parameters.data());
    std::ranges::copy(losses, log.data());
    return std::vector{parameters, log};
  });
  make_independent_of_threads(false);
}

TEST(Step, LossFallsOnARepeatedBatch) {
  TrainConfig config = tiny_config();
  config.train.steps = 60;
  TrainingStep step(config, test::device());
  make_ready(step);
  double first = 0, last = 0;
  for (int64_t t = 1; t <= 60; ++t) {
    last = step.run(t, random_batch(config.data.seq_len)).loss;
    if (t == 1) first = last;
  }
  EXPECT_NEAR(first, std::log(256.0), 0.05);
  EXPECT_LT(last, 0.5 * first);
}

TEST(Step, NonFiniteStepsLeaveEverythingAsItWas) {
  const TrainConfig config = tiny_config();
  TrainingStep step(config, test::device());
  make_ready(step);
  ASSERT_TRUE(step.run(1, random_batch(config.data.seq_len)).applied);
  for (const float poison :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    const Tensor target = step.layout().view(step.model().parameters(), "model.norm.weight").slice(3, 4);
    const std::vector<float> healthy = values(target);
    test::set_values(target, {poison});
    const std::vector<float> parameters = values(step.model().parameters());
    const std::vector<float> m = values(step.optimizer().m()), v = values(step.optimizer().v());
    const StepResult result = step.run(2, random_batch(config.data.seq_len));
    EXPECT_FALSE(result.applied);
    const auto same_bits = [](const std::vector<float>& a, const std::vector<float>& b) {
      return std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
    };
    EXPECT_TRUE(same_bits(parameters, values(step.model().parameters())));
    EXPECT_TRUE(same_bits(m, values(step.optimizer().m())));
    EXPECT_TRUE(same_bits(v, values(step.optimizer().v())));
    test::set_values(target, healthy);
  }
  EXPECT_TRUE(step.run(2, random_batch(config.data.seq_len)).applied);
}

TEST(Optimizer, RangesCoverTheBlockAndFollowEveryParameter) {
  for (const Variant variant : {Variant::additive, Variant::cumulative, Variant::reset, Variant::kimi}) {
    ModelConfig model = tiny_config().model;
    model.residual.variant = variant;
    const ParameterLayout layout(model, make_depth_plan(model));
    const std::vector<DecayRange> ranges = decay_ranges(layout);
    ASSERT_FALSE(ranges.empty());
    EXPECT_EQ(ranges.front().begin, 0);
    EXPECT_EQ(ranges.back().end, layout.block_size());
    for (size_t i = 1; i < ranges.size(); ++i) {
      EXPECT_EQ(ranges[i].begin, ranges[i - 1].end);
      EXPECT_NE(ranges[i].decay, ranges[i - 1].decay) << "not maximal";
    }
    for (const Parameter& parameter : layout.all())
      for (const DecayRange& range : ranges)
        if (parameter.offset < range.end && parameter.offset + parameter.numel() > range.begin) {
          EXPECT_EQ(parameter.decay, range.decay) << parameter.name;
        }
  }
}

TEST(Optimizer, WithoutGradientOnlyDecayMovesParameters) {
  TrainConfig config = tiny_config();
  config.optimizer.weight_decay = 0.5;
  Arena arena(test::device());
  const ParameterLayout layout(config.model, make_depth_plan(config.model));
  Tensor parameters, gradients, loss, norm;
  arena.plan(Purpose::batch, &loss, {1}, DType::f64);
  arena.plan(Purpose::batch, &norm, {1});
  arena.plan(Purpose::parameters, &parameters, {layout.block_size()});
  arena.plan(Purpose::gradients, &gradients, {layout.block_size()});
  const Partition partition(layout, {});
  ASSERT_EQ(partition.padded_size(), layout.block_size());
  AdamW optimizer(config.optimizer, layout, partition, arena);
  arena.allocate();
  initialize_parameters(layout, 5, 0.25, parameters);
  const std::vector<float> before = values(parameters);

  for (int bucket = 0; bucket < static_cast<int>(partition.buckets().size()); ++bucket)
    optimizer.update(test::stream(), 1, 0.125, bucket, {loss, norm}, gradients, parameters, {});
  for (const Parameter& parameter : layout.all()) {
    const float factor = parameter.decay ? 1.0F - 0.125F * 0.5F : 1.0F;
    const std::vector<float> now = values(layout.view(parameters, parameter));
    for (int64_t i = 0; i < parameter.numel(); ++i)
      ASSERT_FLOAT_EQ(now[static_cast<size_t>(i)], before[static_cast<size_t>(parameter.offset + i)] * factor)
          << parameter.name;
  }
}

}  // namespace
}  // namespace depthroute
