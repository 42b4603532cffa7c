// Values that are each possible and not together.
#include <gtest/gtest.h>

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
  EXPECT_TRUE(contains(error("  residual:\n    num_blocks: 57\n"),
                       "run.yaml:5: model.residual.num_blocks = 57 is outside"));
  EXPECT_TRUE(contains(error("  num_layers: 40\n  residual: {sublayers_per_block: 1}\n"),
                       "run.yaml:5: model.residual.sublayers_per_block = 1 gives sites of 81 sources"));
  // Caused by a default: the message points at the section.
  EXPECT_TRUE(
      contains(error("  num_layers: 3\n"), "run.yaml:3: model.residual.num_blocks = 8 is outside 1 ... "));
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

TEST(CrossCheck, Sample) {
  const auto error = [](const std::string& text) { return eval_error(kEval + text); };
  EXPECT_EQ(eval_error(kEval, {"data.choose=documents"}),
            "--set data.choose=documents: data.choose: documents needs data.separator, which says where they "
            "end");
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
