// Values that are each possible and not together.
#include <gtest/gtest.h>

#include "configs/whole_ratio.h"
#include "tests/configs/support.h"

namespace depthroute::test {
namespace {

TEST(CrossCheck, Train) {
  const auto error = [](const std::string& text) { return train_error(kTrain + text); };
  EXPECT_EQ(error("train: {global_batch: 6,\n        micro_batch: 4}"),
            "run.yaml:4: train.micro_batch = 4 does not divide train.global_batch = 6");
  EXPECT_EQ(error("train: {global_batch: 4}"),
            "run.yaml:3: train.micro_batch = 8 does not divide train.global_batch = 4");
  EXPECT_EQ(error("train: {steps: 300}"),
            "run.yaml:3: optimizer.warmup = 1000 is more than train.steps = 300");
  EXPECT_EQ(error("train: {steps: 300}\noptimizer: {warmup: 301}"),
            "run.yaml:4: optimizer.warmup = 301 is more than train.steps = 300");
  EXPECT_EQ(error("train: {steps: 300}\noptimizer: {warmup: 300}"), "");
  EXPECT_EQ(error("optimizer: {lr: 1.0e-5}"),
            "run.yaml:3: optimizer.lr_min = 3e-05 is above optimizer.lr = 1e-05");
  EXPECT_EQ(error("optimizer: {lr: 1.0e-5, schedule: constant}"), "");
  EXPECT_EQ(error("train: {steps: 1000000000, global_batch: 800000000}\ndata2: 1").substr(0, 12),
            "run.yaml:4: ");
  EXPECT_EQ(error("train: {steps: 1000000000, global_batch: 800000000}"),
            "run.yaml:3: train.steps * train.global_batch * data.seq_len is more tokens than can be counted");
  EXPECT_EQ(error("model:\n  residual: {num_blocks: 4,\n    sublayers_per_block: 2}"),
            "run.yaml:5: model.residual.sublayers_per_block = 2 and model.residual.num_blocks = 4 say the "
            "same thing; "
            "give one, and null for the other");
  EXPECT_EQ(error("model: {residual: {num_blocks: null, sublayers_per_block: 2}}"), "");
}

TEST(CrossCheck, ShapeOfTheModel) {
  const auto error = [](const std::string& text) { return train_error(kTrain + "model:\n" + text); };
  EXPECT_EQ(error("  num_layers: 4\n  head_dim: 7\n"),
            "run.yaml:5: model.head_dim = 7 must be even: RoPE rotates pairs");
  EXPECT_EQ(error("  num_heads: 6\n  num_kv_heads: 4\n"),
            "run.yaml:4: model.num_heads = 6 is not a multiple of num_kv_heads = 4");
  // More blocks than layers, by the default or asked for: a block per layer, as in the open code.
  EXPECT_EQ(error("  num_layers: 3\n"), "");
  EXPECT_EQ(error("  residual: {num_blocks: 57}\n"), "");
  EXPECT_TRUE(contains(error("  num_layers: 40\n  residual: {sublayers_per_block: 1}\n"),
                       "run.yaml:5: model.residual.sublayers_per_block = 1 gives sites of 81 sources"));
  EXPECT_TRUE(contains(error("  num_layers: 80\n  residual:\n    num_blocks: 99\n"),
                       "run.yaml:6: model.residual.num_blocks = 99 gives sites of 81 sources"));
  // Caused by a default: the message points at the section.
  EXPECT_TRUE(contains(error("  num_kv_heads: 7\n"),
                       "run.yaml:3: model.num_heads = 16 is not a multiple of num_kv_heads = 7"));
  EXPECT_EQ(error("  num_layers: 3\n  residual: {variant: additive}\n"), "");
  // The shape of a folder is the folder's affair.
  EXPECT_EQ(error("  from: a\n  head_dim: 7\n"), "");
  EXPECT_EQ(error("  from: null\n"), "");
}

TEST(CrossCheck, Eval) {
  const auto error = [](const std::string& wrap) {
    return eval_error("output: o\ndata: {shards: [a]}\nmodel:\n  from: m\n  wrap: " + wrap);
  };
  EXPECT_EQ(error("null"), "");
  EXPECT_EQ(error("{recency_bias: [1, 2]}"), "");
  EXPECT_EQ(error("{recency_bias: 30, num_blocks: 3,\n    sublayers_per_block: 2}"),
            "eval.yaml:6: model.wrap.sublayers_per_block and model.wrap.num_blocks say the same thing; give "
            "one, and null "
            "for the other");
  EXPECT_EQ(error("{}\n# wrapped with the defaults"), "");
}

TEST(CrossCheck, Mix) {
  const auto error = [](const std::string& mix) { return train_error("output: o\ndata:\n  mix: " + mix); };
  EXPECT_EQ(error("[{shards: [a], weight: 0.7}, {shards: [b], weight: 0.3}]"), "");
  EXPECT_EQ(error("[{shards: [a, b], weight: 3}]"), "");
  EXPECT_EQ(error("[]"), "run.yaml:3: data.mix must not be an empty list");
  EXPECT_EQ(
      error("[{shards: [a]}]"),
      "run.yaml:3: required key 'data.mix[0].weight' is missing (share of the sequences drawn from it, relative to "
      "the other weights; at most six decimals)");
  EXPECT_EQ(error("[{shards: [], weight: 1}]"), "run.yaml:3: data.mix[0].shards must not be an empty list");
  EXPECT_EQ(error("[{shards: [a], weight: 0}]"),
            "run.yaml:3: data.mix[0].weight must be in (0, 1000000], got 0");
  EXPECT_EQ(
      error("[{shards: [a], weight: 0.1234567}, {shards: [b], weight: 1}]"),
      "run.yaml:3: data.mix: the weights 0.1234567, 1 are in no ratio of whole numbers that add up to at most "
      "1048576; give them fewer digits");
  EXPECT_EQ(
      error("[{shards: [a], weight: 1}]\n  train: [a]"),
      "run.yaml:3: data.train and data.mix both say what to train on; give one, and null for data.train if it is "
      "data.mix");
  EXPECT_EQ(error("[{shards: [a], weight: 1}]\n  train: null"), "");
  EXPECT_EQ(train_error(kTrain, {"data.train=null", "data.mix=[{shards: [a], weight: 1}]"}), "");

  const std::string text =
      "output: o\ndata: {mix: [{shards: [a, 'b*'], weight: 0.7}, {shards: [c], weight: 1e-6}]}";
  const TrainConfig config = parse_train_config(text, "run.yaml");
  const TrainConfig back = parse_train_config(to_yaml(config), "printed");
  ASSERT_EQ(back.data.mix.size(), 2u);
  EXPECT_EQ(back.data.mix[0].shards, (std::vector<std::string>{"a", "b*"}));
  EXPECT_EQ(back.data.mix[1].weight, 1e-6);
  EXPECT_EQ(flatten(back), flatten(config));
}

TEST(WholeRatio, IsExactOrNothing) {
  using Parts = std::optional<std::vector<int64_t>>;
  EXPECT_EQ(whole_ratio({0.7, 0.3}), (Parts{{7, 3}}));
  EXPECT_EQ(whole_ratio({0.1, 0.2, 0.3}), (Parts{{1, 2, 3}}));
  EXPECT_EQ(whole_ratio({5}), (Parts{{1}}));
  EXPECT_EQ(whole_ratio({1e6, 0.5e6}), (Parts{{2, 1}}));
  EXPECT_EQ(whole_ratio({0.123456, 0.876544}), (Parts{{1929, 13696}}));
  EXPECT_EQ(whole_ratio({0.333333, 0.333333, 0.333334}), (Parts{{333333, 333333, 333334}}));
  EXPECT_EQ(whole_ratio({1.0 / 3, 2.0 / 3}), std::nullopt);
  EXPECT_EQ(whole_ratio({1e-7}), std::nullopt);
  EXPECT_EQ(whole_ratio({1e6, 1}), (Parts{{1000000, 1}}));
  EXPECT_EQ(whole_ratio({1e6, 0.5}), std::nullopt);
  for (int64_t i = 1; i < 1000000; i += 7) {  // every decimal is recognised
    const double weight = static_cast<double>(i) / 1e6;
    const auto parts = whole_ratio({weight, static_cast<double>(1000000 - i) / 1e6});
    ASSERT_TRUE(parts) << i;
    ASSERT_EQ((*parts)[0] * (1000000 - i), (*parts)[1] * i) << i;
  }
}

TEST(CrossCheck, Sample) {
  const auto error = [](const std::string& text) { return eval_error(kEval + text); };
  EXPECT_EQ(eval_error(kEval, {"data.choose=documents"}), "") << "the shards may know documents";
  EXPECT_EQ(eval_error(kEval, {"data.choose=documents", "data.separator=0"}), "");
  EXPECT_EQ(eval_error(kEval, {"data.separator=null"}), "");
  EXPECT_EQ(error("splits: {calibration: 0.3,\n  exploration: 0.4}"),
            "eval.yaml:4: the shares of splits sum to 1.1; make it 1: calibration 0.3, exploration 0.4, "
            "confirmation 0.4");
  EXPECT_EQ(error("splits: {calibration: 0.1, exploration: 0.7, confirmation: 0.2}"), "");
  EXPECT_EQ(
      eval_error(kEval + "splits: {calibration: 0, exploration: 0, confirmation: 1}\n",
                 {"data.split=exploration"}),
      "--set data.split=exploration: data.split: exploration is empty: splits.exploration is 0; give it "
      "a share");
}

TEST(CrossCheck, ASeparatorIsATokenOrASequence) {
  const auto separator = [](const std::string& value) {
    return parse_eval_config(kEval, "eval.yaml", {"data.separator=" + value}).data.separator;
  };
  EXPECT_EQ(separator("151643"), std::vector<int64_t>{151643});
  EXPECT_EQ(separator("[198, 198]"), (std::vector<int64_t>{198, 198}));
  EXPECT_TRUE(separator("null").empty());
  EXPECT_EQ(eval_error(kEval, {"data.separator=[]"}),
            "--set data.separator=[]: data.separator must not be an empty list");
}

TEST(CrossCheck, TaskRequestsStandForShards) {
  const std::string task =
      "output: r.h5\nmodel: {from: m}\ndata: {requests: hellaswag.jsonl, seed: 3, split: exploration";
  const EvalConfig config = parse_eval_config(task + "}\n", "eval.yaml");
  EXPECT_EQ(config.data.requests, "hellaswag.jsonl");
  EXPECT_EQ(to_yaml(parse_eval_config(to_yaml(config), "again")), to_yaml(config));
  for (const char* other :
       {"shards: [a.bin]", "seq_len: 2048", "sequences: 256", "choose: shuffled", "separator: 5"}) {
    const std::string error = eval_error(task + ", " + other + "}\n");
    EXPECT_TRUE(contains(error, "does not go with data.requests")) << error;
  }
  EXPECT_TRUE(
      contains(eval_error("output: r.h5\nmodel: {from: m}\n"), "required key 'data.shards' is missing"));
  const std::string cell =
      "}\ncells: [{name: c, sources: [0], sublayers: [mlp], intervention: mask, first_token: 5000}]\n";
  EXPECT_EQ(eval_error(task + cell), "");  // how long the requests are is seen later
}

}  // namespace
}  // namespace depthroute::test
