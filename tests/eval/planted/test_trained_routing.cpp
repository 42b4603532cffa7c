// A model trained here, on a text of a small grammar: which source holds what matters, their order does not.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "configs/base/random.h"
#include "data/model/model_folder.h"
#include "eval/analysis/bootstrap.h"
#include "tests/eval/eval_fixture.h"
#include "tests/train/model/model_fixture.h"
#include "train/step.h"

namespace depthroute {
namespace {

constexpr int32_t kVocab = 32;
constexpr int64_t kLength = 16, kSteps = 500, kSequences = 64;

/// Every token follows from the one two places before it, so that attention has to fetch it, or, one time in
/// eight, is any.
std::vector<int32_t> grammar(int64_t count) {
  std::vector<int32_t> tokens = {0, 1};
  for (int64_t i = 2; i < count; ++i) {
    const auto at = static_cast<uint64_t>(i);
    const bool any = random_below(11, at, 8) == 0;
    tokens.push_back(any ? static_cast<int32_t>(random_below(12, at, kVocab))
                         : (5 * tokens[tokens.size() - 2] + 3) % kVocab);
  }
  return tokens;
}

TrainConfig training(Variant variant) {
  TrainConfig config;
  config.precision = Precision::fp32;
  config.model = {.vocab_size = kVocab,
                  .hidden_size = 32,
                  .num_layers = 6,
                  .num_heads = 2,
                  .num_kv_heads = 1,
                  .head_dim = 16,
                  .intermediate_size = 48,
                  .residual = {.variant = variant, .sublayers_per_block = 2}};
  config.data.seq_len = kLength;
  config.train = {.steps = kSteps, .global_batch = 8, .micro_batch = 8};
  config.optimizer.lr = 1e-2;
  config.optimizer.lr_min = 1e-3;
  config.optimizer.warmup = 20;
  return config;
}

class TrainedRouting : public testing::TestWithParam<Variant> {
 protected:
  TrainedRouting() {
    write_shard(folder_ / "tokens.bin", grammar(8 * kSteps * kLength + 1), kVocab);
    tokens_ = std::make_unique<TokenStream>(std::vector<std::string>{folder_ / "tokens.bin"}, kVocab);
  }
  /// Trains for so many steps and writes the model folder.
  void train_model(int64_t steps, double recency_bias, const std::string& folder) {
    const TrainConfig config = training(GetParam());
    TrainingStep step(config, test::device());
    step.allocate();
    initialize_parameters(step.layout(), 5, recency_bias, step.model().parameters());
    const Batches batches(*tokens_, kLength, DataOrder::sequential, 1);
    for (int64_t t = 1; t <= steps; ++t)
      ASSERT_TRUE(step.run(t, batches.at((t - 1) * config.train.global_batch)).applied);
    const std::vector<Parameter>& parameters = step.layout().all();
    std::vector<std::vector<float>> contents;
    for (const Parameter& p : parameters)
      contents.push_back(test::host_values(step.layout().view(step.model().parameters(), p)));
    std::vector<TensorToWrite> tensors;
    for (size_t i = 0; i < contents.size(); ++i)
      tensors.push_back({parameters[i].name, parameters[i].shape.extents(), contents[i]});
    std::filesystem::create_directory(folder);
    write_model_folder(folder, config.model, tensors);
  }
  struct Permuted {
    double clean;         // nats per token
    Estimate effect;      // of permuting the contents of all sources of all sites
    double largest_both;  // of any token, where the keys of all but the current source go with them
  };
  Permuted permute(int64_t steps, double recency_bias) {
    EvalConfig config;
    config.model.from = folder_ / std::to_string(steps);
    train_model(steps, recency_bias, config.model.from);
    config.micro_batch = 8;
    config.data.seq_len = kLength;
    std::vector<CellConfig> configs(2);
    for (const size_t i : {0, 1}) {
      configs[i].name = i == 0 ? "values" : "both";
      configs[i].intervention = Intervention::permute;
      configs[i].source_families = {Family::embedding, Family::older, Family::recent};
      configs[i].sublayers = {Sublayer::attn, Sublayer::mlp};
      configs[i].replace = i == 0 ? Replace::values : Replace::both;
    }
    // The current state has a bias of its own, so that it cannot change places without an effect.
    configs[0].source_families.push_back(Family::current);
    const DepthPlan plan = make_depth_plan(open_eval_model(config, config.model.from).config);
    const std::vector<Cell> cells = resolve_cells({}, configs, plan);
    const std::vector<Comparison> list = comparisons_of(cells);
    EvalSession session(config, needs_of(plan, list));
    const Evaluation evaluation = session.run(*tokens_, kSequences, list);
    const std::vector<double> sums[] = {evaluation.outcomes[0][CellColumn::delta_nll]};
    const std::vector<int64_t> tokens(kSequences, kLength);
    double clean = 0;
    for (const double nll : evaluation.clean[CleanColumn::nll]) clean += nll / (kSequences * kLength);
    return {clean, estimate_ratios(sums, tokens, {.draws = 500})[0],
            evaluation.outcomes[1][CellColumn::largest_change].front()};
  }
  TempFolder folder_;
  std::unique_ptr<TokenStream> tokens_;
};

TEST_P(TrainedRouting, DependsOnWhatIsWhereButNotOnTheOrder) {
  const Permuted trained = permute(kSteps, 2);
  RecordProperty("clean_nll", std::to_string(trained.clean));
  RecordProperty("delta_nll", std::to_string(trained.effect.value));
  EXPECT_LT(trained.clean, std::log(32.0) - 0.5);  // it has learned something
  EXPECT_GT(trained.effect.low, 0.05);
  EXPECT_LT(trained.largest_both, 1e-3);
}

// All weights are equal before training without a recency bias: there is no routing to permute.
TEST_P(TrainedRouting, IsNothingBeforeTraining) {
  const Permuted fresh = permute(0, 0);
  EXPECT_NEAR(fresh.clean, std::log(32.0), 0.1);
  EXPECT_NEAR(fresh.effect.value, 0, 1e-5);
  EXPECT_LT(fresh.largest_both, 1e-4);
}

INSTANTIATE_TEST_SUITE_P(Variants, TrainedRouting,
                         testing::Values(Variant::cumulative, Variant::reset, Variant::kimi),
                         [](const auto& test) { return std::string(to_string(test.param)); });

}  // namespace
}  // namespace depthroute
