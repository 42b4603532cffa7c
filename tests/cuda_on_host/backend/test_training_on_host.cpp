// Whole training steps on the emulated device, which executes every kernel, against the CPU backend: the same
// data and the same initial weights, in float32 and in bf16.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <random>
#include <vector>

#include "configs/base/error.h"
#include "tests/cuda_on_host/runtime.h"
#include "tests/kernels/host_tensor.h"
#include "train/step.h"

namespace depthroute {
namespace {

TrainConfig tiny(Variant variant) {
  TrainConfig config;
  config.precision = Precision::fp32;
  config.model = {.vocab_size = 97,
                  .hidden_size = 40,
                  .num_layers = 3,
                  .num_heads = 4,
                  .num_kv_heads = 2,
                  .head_dim = 16,
                  .intermediate_size = 56,
                  .tie_embeddings = variant != Variant::reset,
                  .residual = {.variant = variant, .num_blocks = 2}};
  config.data.seq_len = 19;
  config.train = {.steps = 12, .global_batch = 4, .micro_batch = 2};
  config.optimizer.lr = 3e-3;
  config.optimizer.warmup = 3;
  return config;
}

/// Sequences in which every token follows from the previous one, with some noise: something to learn.
BatchSource batch_of(int64_t t, int64_t seq_len, int32_t vocab) {
  return [=](int64_t first, int64_t count, std::span<int32_t> tokens, std::span<int32_t> targets) {
    for (int64_t i = 0; i < count; ++i) {
      std::mt19937 random(static_cast<uint32_t>(1000 * t + first + i));
      auto token = static_cast<int32_t>(random() % static_cast<uint32_t>(vocab));
      for (int64_t j = i * seq_len; j < (i + 1) * seq_len; ++j) {
        tokens[static_cast<size_t>(j)] = token;
        token = random() % 8 == 0 ? static_cast<int32_t>(random() % static_cast<uint32_t>(vocab))
                                  : (5 * token + 3) % vocab;
        targets[static_cast<size_t>(j)] = token;
      }
    }
  };
}

struct Trained {
  std::vector<double> losses, norms;
  std::vector<float> parameters, compute;
};

Trained train(const TrainConfig& config, Device device, int64_t steps) {
  TrainingStep step(config, device);
  step.allocate();
  initialize_parameters(step.layout(), 5, 0.25, step.model().parameters());
  Trained run;
  for (int64_t t = 1; t <= steps; ++t) {
    const StepResult result =
        step.run(t, batch_of(t, config.data.seq_len, static_cast<int32_t>(config.model.vocab_size)));
    EXPECT_TRUE(result.applied);
    run.losses.push_back(result.loss);
    run.norms.push_back(result.grad_norm);
  }
  run.parameters = test::host_values(step.model().parameters());
  if (step.model().compute_parameters().defined())
    run.compute =
        test::host_values(step.model().compute_parameters().slice(0, step.layout().matrices_size()));
  return run;
}

double relative_distance(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += std::pow(static_cast<double>(a[i]) - b[i], 2);
    norm += std::pow(static_cast<double>(b[i]), 2);
  }
  return std::sqrt(difference / norm);
}

class TrainingOnHost : public testing::TestWithParam<Variant> {};

TEST_P(TrainingOnHost, Float32FollowsTheCpu) {
  const TrainConfig config = tiny(GetParam());
  const Trained cpu = train(config, Device::cpu, 6), cuda = train(config, Device::cuda, 6);
  for (size_t t = 0; t < cpu.losses.size(); ++t) {
    EXPECT_NEAR(cuda.losses[t], cpu.losses[t], 2e-5) << "step " << t + 1;
    EXPECT_NEAR(cuda.norms[t] / cpu.norms[t], 1.0, 2e-4) << "step " << t + 1;
  }
  // Adam divides by the root of tiny second moments: rounding a gradient can flip the sign of a first step.
  EXPECT_LT(relative_distance(cuda.parameters, cpu.parameters), 1e-3);
}

TEST_P(TrainingOnHost, Bf16FollowsTheCpuAtADistanceOfItsRounding) {
  TrainConfig config = tiny(GetParam());
  const Trained cpu = train(config, Device::cpu, 12);
  config.precision = Precision::bf16;
  const Trained cuda = train(config, Device::cuda, 12);
  for (size_t t = 0; t < cpu.losses.size(); ++t) {
    EXPECT_NEAR(cuda.losses[t], cpu.losses[t], 0.02) << "step " << t + 1;
    EXPECT_NEAR(cuda.norms[t] / cpu.norms[t], 1.0, 0.05) << "step " << t + 1;
  }
  EXPECT_LT(cuda.losses.back(), cuda.losses.front());
  ASSERT_FALSE(cuda.compute.empty());
  for (size_t i = 0; i < cuda.compute.size(); ++i)
    ASSERT_EQ(cuda.compute[i], static_cast<float>(test::Bf16(cuda.parameters[i]))) << i;
}

// A recorded and replayed micro-batch, and recomputing
// everything instead of keeping it, give the same numbers.
TEST_P(TrainingOnHost, GraphsAndRecomputationChangeNoBit) {
  TrainConfig config = tiny(GetParam());
  config.precision = Precision::bf16;
  const Trained plain = train(config, Device::cuda, 4);
  config.train.cuda_graph = true;
  const Trained replayed = train(config, Device::cuda, 4);
  EXPECT_EQ(replayed.losses, plain.losses);
  EXPECT_EQ(replayed.parameters, plain.parameters);
  for (const Recompute recompute : values<Recompute>()) {
    config.train.recompute = recompute;
    const Trained other = train(config, Device::cuda, 4);
    EXPECT_EQ(other.losses, plain.losses) << to_string(recompute);
    EXPECT_EQ(other.parameters, plain.parameters) << to_string(recompute);
  }
}

// A library may want more scratch for a smaller batch. Sizes of batches that the configuration implies are planned
// for, whatever it wants; another one is an error with the numbers.
TEST(TrainingOnHostMemory, ScratchIsPlannedForEveryBatchThatIsKnown) {
  setenv("CUDA_ON_HOST_CUDNN", "91900", 1);
  TrainConfig config = tiny(Variant::kimi);
  config.precision = Precision::bf16;
  config.data.seq_len = 23;  // its own: the choice of kernels is kept per shape
  config.train.global_batch = 7;
  config.train.micro_batch = 4;
  config.validate.sequences = 6;
  TrainingStep step(config, Device::cuda);
  step.allocate();
  initialize_parameters(step.layout(), 5, 0.25, step.model().parameters());
  const BatchSource batch = batch_of(1, config.data.seq_len, static_cast<int32_t>(config.model.vocab_size));
  EXPECT_TRUE(step.run(1, batch).applied);  // 4 and 3 sequences
  EXPECT_GT(step.evaluate(4, 2, batch), 0);
  try {
    step.evaluate(0, 1, batch);
    ADD_FAILURE() << "scratch for one sequence was never planned";
  } catch (const SystemError& error) {
    EXPECT_NE(std::string(error.what()).find("8388608 bytes of scratch"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("4194304 that were planned"), std::string::npos) << error.what();
  }
  unsetenv("CUDA_ON_HOST_CUDNN");
}

/// Deep enough for groups of seven sites with three finished blocks, which they read together.
TrainConfig deep(Variant variant) {
  TrainConfig config = tiny(variant);
  config.model.num_layers = 12;
  config.model.residual.num_blocks = 3;
  return config;
}

TEST(TrainingOfGroupReads, FollowsTheCpuAndRepeatsItsBits) {
  for (const Variant variant : {Variant::cumulative, Variant::kimi}) {
    TrainConfig config = deep(variant);
    const Trained cpu = train(config, Device::cpu, 3), cuda = train(config, Device::cuda, 3);
    for (size_t t = 0; t < cpu.losses.size(); ++t) EXPECT_NEAR(cuda.losses[t], cpu.losses[t], 2e-5);
    EXPECT_LT(relative_distance(cuda.parameters, cpu.parameters), 1e-3);
    config.train.recompute = Recompute::layer;
    EXPECT_EQ(train(config, Device::cpu, 3).parameters, cpu.parameters);
    config.train.cuda_graph = true;
    EXPECT_EQ(train(config, Device::cuda, 3).parameters, cuda.parameters);
  }
}

class TrainingWithOverlap : public testing::TestWithParam<Variant> {
 protected:
  void TearDown() override {
    unsetenv("CUDA_ON_HOST_STREAMS");
    unsetenv("CUDA_ON_HOST_FORGET_WAITS");
    cuda::emulator::forget_wait(-1);
  }
  Trained in_order(const char* order, const TrainConfig& config, int64_t steps = 2) {
    setenv("CUDA_ON_HOST_STREAMS", order, 1);
    return train(config, Device::cuda, steps);
  }
};

// Whatever the second stream does early or late, in a recording or not, the bits are the same; and the same without it
// where it leaves groups of sites as they are.
TEST_P(TrainingWithOverlap, TheOrderOfStreamsChangesNoBit) {
  TrainConfig config = deep(GetParam());
  config.precision = Precision::bf16;
  const Trained alone = in_order("eager", config);
  config.train.overlap = true;
  const Trained right = in_order("eager", config);
  EXPECT_EQ(right.parameters == alone.parameters, GetParam() != Variant::cumulative);
  EXPECT_LT(relative_distance(right.parameters, alone.parameters), 1e-3);
  for (const char* order : {"lazy", "opposite", "1", "2"})
    EXPECT_EQ(in_order(order, config).parameters, right.parameters) << order;
  config.train.cuda_graph = true;
  EXPECT_EQ(in_order("opposite", config).parameters, right.parameters) << "recorded";
  config.train.recompute = Recompute::layer;
  EXPECT_EQ(in_order("opposite", config).parameters, right.parameters) << "computed again";
  EXPECT_EQ(in_order("1", config).parameters, right.parameters) << "computed again";
}

// Lazily, the first stream does not wait for the second; in the opposite order, the second does not wait for the first.
TEST_P(TrainingWithOverlap, MissesForgottenWaits) {
  TrainConfig config = deep(GetParam());
  config.precision = Precision::bf16;
  config.train.overlap = true;
  const Trained right = in_order("eager", config);
  setenv("CUDA_ON_HOST_FORGET_WAITS", "ordinary", 1);
  for (const char* order : {"lazy", "opposite"})
    EXPECT_NE(in_order(order, config).parameters, right.parameters) << order;
}

// Every single one of a step's waits is needed: without it, one of the two orders gives another result.
TEST_P(TrainingWithOverlap, MissesEachForgottenWait) {
  TrainConfig config = deep(GetParam());
  config.precision = Precision::bf16;
  config.train.overlap = true;
  config.train.global_batch = config.train.micro_batch;
  const int64_t before = cuda::emulator::waits_so_far();
  const Trained right = in_order("eager", config, 1);
  const int64_t waits = cuda::emulator::waits_so_far() - before;
  EXPECT_GT(waits, 4);
  for (int64_t wait = 0; wait < waits; ++wait) {
    const auto misses = [&](const char* order) {
      cuda::emulator::forget_wait(cuda::emulator::waits_so_far() + wait);
      const Trained wrong = in_order(order, config, 1);
      return wrong.norms != right.norms || wrong.parameters != right.parameters;
    };
    EXPECT_TRUE(misses("lazy") || misses("opposite")) << "wait " << wait << " of " << waits;
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, TrainingWithOverlap, testing::Values(Variant::cumulative, Variant::kimi),
                         [](const auto& test) { return std::string(to_string(test.param)); });

INSTANTIATE_TEST_SUITE_P(Variants, TrainingOnHost,
                         testing::Values(Variant::additive, Variant::cumulative, Variant::reset,
                                         Variant::kimi),
                         [](const auto& test) { return std::string(to_string(test.param)); });

}  // namespace
}  // namespace depthroute
