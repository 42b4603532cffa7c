// What --dry-run --card counts and predicts. That its bytes are those of the executed kernels is tested in
// tests/cuda_on_host/backend.
#include <algorithm>

#include "configs/base/error.h"
#include "tests/train/tiny_run.h"
#include "train/model/qwen3.h"
#include "train/step_cost.h"

namespace depthroute {
namespace {

using testing_support::is_one_line;
using testing_support::Result;

TrainConfig config_of(Variant variant) {
  TrainConfig config = testing_support::tiny_config();
  config.precision = Precision::bf16;
  config.model.num_layers = 6;
  config.model.residual = {.variant = variant, .num_blocks = 3};
  return config;
}

double flops(const cost::Log& log, std::string_view name) {
  double sum = 0;
  for (const cost::KernelCost& kernel : log)
    if (kernel.name.starts_with(name)) sum += kernel.flops;
  return sum;
}

cost::Log sorted(cost::Log log) {
  std::sort(log.begin(), log.end());
  return log;
}

TEST(StepCost, CountsTheProductsOfTheModel) {
  for (const Variant variant : values<Variant>()) {
    const TrainConfig config = config_of(variant);
    const StepCost cost = count_step(config);
    const auto tokens = static_cast<double>(config.train.micro_batch * config.data.seq_len);
    const double q_cols = static_cast<double>(config.model.num_heads * config.model.head_dim);
    const double attention = static_cast<double>(config.model.num_layers * config.data.seq_len) * q_cols;
    const double whole = Qwen3::train_flops_per_token(config.model, config.data.seq_len);
    const double products = flops(cost.micro_batch, "products") + flops(cost.micro_batch, "head");
    EXPECT_NEAR(products, tokens * (whole - 6 * attention), 1);
    // The backward pass computes the scores again.
    EXPECT_NEAR(flops(cost.micro_batch, "attention forward"), tokens * 2 * attention, 1);
    EXPECT_NEAR(flops(cost.micro_batch, "attention backward"), tokens * 5 * attention, 1);
    EXPECT_EQ(flops(cost.update, ""), 0);
  }
}

TEST(StepCost, UpdatesReadAndWriteEachParameterOnce) {
  const TrainConfig config = config_of(Variant::cumulative);
  const ParameterLayout layout(config.model, make_depth_plan(config.model));
  int64_t bytes = 0;
  for (const cost::KernelCost& kernel : count_step(config).update)
    if (kernel.name == "adamw") bytes += kernel.bytes();
  // Gradient, and parameter, m and v read and written, all float32; matrices written in bf16, too.
  const int64_t least = 28 * layout.num_parameters() + 2 * layout.matrices_size();
  EXPECT_GE(bytes, least);
  EXPECT_LT(bytes, least + 28 * 64 * 200);  // padding
}

TEST(StepCost, DoesNotDependOnTheBatchOfAStep) {
  TrainConfig config = config_of(Variant::kimi);
  const StepCost small = count_step(config);
  config.train.global_batch *= 8;
  const StepCost large = count_step(config);
  EXPECT_TRUE(small.micro_batch == large.micro_batch);
  EXPECT_TRUE(small.update == large.update);
  config.deterministic = true;  // a gradient for each of 8 slices
  const StepCost slices = count_step(config);
  EXPECT_TRUE(sorted(small.micro_batch) == sorted(slices.micro_batch));
  EXPECT_GT(slices.update.size(), large.update.size());
}

TEST(StepCost, AKernelTakesTheLongestOfItsNeeds) {
  const cost::Card& card = cost::find_card("h100");
  cost::KernelCost kernel{.launches = 3};
  const double gaps = 3 * card.launch_gap;
  EXPECT_DOUBLE_EQ(cost::seconds(kernel, card), gaps);
  kernel.read = 1'000'000'000;
  kernel.written = kernel.read_again = 500'000'000;
  EXPECT_DOUBLE_EQ(cost::seconds(kernel, card), 2e9 / (card.bandwidth * card.kernel_share) + gaps);
  kernel.instructions = 1e12;
  EXPECT_DOUBLE_EQ(cost::seconds(kernel, card), 1e12 / card.instructions + gaps);
  kernel.rate = cost::Rate::attention_backward;
  kernel.flops = 1e15;
  EXPECT_DOUBLE_EQ(cost::seconds(kernel, card), 1e15 / card.attention[1] + gaps);
}

// Work on a second stream costs what the first stream's, until it waits, does not hide.
TEST(StepCost, WorkBesideOthersIsHiddenUpToBandwidth) {
  const cost::Card& card = cost::find_card("h100");
  const auto product = [&](double ms, bool waits) {
    return cost::KernelCost{
        .rate = cost::Rate::product_bf16, .flops = 1e-3 * ms * card.product_bf16, .waits = waits};
  };
  const auto copy = [&](double ms, bool beside) {
    const double bytes = 1e-3 * ms * card.bandwidth * card.kernel_share;
    return cost::KernelCost{.read = static_cast<int64_t>(bytes), .beside = beside};
  };
  const auto ms = [&](const cost::Log& log) {
    return 1e3 * (cost::seconds(log, card) - static_cast<double>(log.size()) * card.launch_gap);
  };
  const double near = 0.01;  // gaps of what is hidden
  EXPECT_NEAR(ms({product(3, false), copy(2, false), product(4, false)}), 9, near);
  EXPECT_NEAR(ms({product(3, false), copy(2, true), product(4, false), product(1, true)}), 8, near)
      << "hidden";
  EXPECT_NEAR(ms({product(3, false), copy(6, true), product(4, false), product(1, true)}), 10, near)
      << "longer";
  EXPECT_NEAR(ms({copy(2, true), copy(3, false), product(1, true)}), 6, near) << "both need the memory";
  EXPECT_NEAR(ms({copy(2, true), product(4, true)}), 6, near) << "nothing beside it";
}

TEST(StepCost, OverlapIsCountedBesideTheSublayers) {
  TrainConfig config = config_of(Variant::kimi);
  const cost::Log alone = count_step(config).micro_batch;
  config.train.overlap = true;
  const cost::Log log = count_step(config).micro_batch;
  ASSERT_EQ(log.size(), alone.size());
  bool open = false;
  int64_t beside = 0;
  for (const cost::KernelCost& kernel : log) {
    EXPECT_FALSE(kernel.beside && open && kernel.name == "routing of finished blocks")
        << "no wait in between";
    if (kernel.beside) {
      EXPECT_TRUE(kernel.name.starts_with("routing") || kernel.name == "sums over tokens") << kernel.name;
      ++beside;
    }
    open = kernel.beside || (open && !kernel.waits);
  }
  EXPECT_GT(beside, 0);
  EXPECT_FALSE(open) << "the second stream's last work is not waited for";
}

TEST(StepCost, CardsOfMoreBandwidthAreFaster) {
  const TrainConfig config = config_of(Variant::cumulative);
  const cost::Log log = count_step(config).micro_batch;
  const auto time = [&](const char* card) {
    return cost::total(cost::sums_by_name(log, &cost::find_card(card)), "").seconds;
  };
  EXPECT_LT(time("h200"), time("h100"));
  EXPECT_LT(time("h100"), time("a100"));
  EXPECT_THROW(cost::find_card("H100"), ConfigError);
}

class StepCostProgram : public testing_support::TinyRun {};

TEST_F(StepCostProgram, TheDryRunPredictsAStep) {
  const std::string config = write_config("run", 10);
  Result result = train(config, {"--dry-run", "--card", "h200"});
  ASSERT_EQ(result.status, 0) << result.err;
  for (const char* part : {"predicted for h200", "products, forward", "routing backward, shared",
                           "micro-batch", "once per step", "tokens/s", "with plain residuals: +"})
    EXPECT_NE(result.out.find(part), std::string::npos) << part << " in " << result.out;
  EXPECT_EQ(result.out.find("processes"), std::string::npos);
  EXPECT_FALSE(exists(path("run")));

  const auto refuse = [&](const std::vector<std::string>& options, const char* reason) {
    result = train(config, options);
    EXPECT_EQ(result.status, kExitBadInput);
    EXPECT_TRUE(is_one_line(result.err));
    EXPECT_NE(result.err.find(reason), std::string::npos) << result.err;
  };
  refuse({"--dry-run", "--card", "h1000"}, "--card: 'h1000' is not known; one of h100, h200, a100");
  refuse({"--card", "h100"}, "--card: only with --dry-run");
}

}  // namespace
}  // namespace depthroute
