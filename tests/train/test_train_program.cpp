// depthroute-train from the outside: bad input, the lock, non-finite steps, starting from a model, and
// --dry-run.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "configs/base/error.h"
#include "data/files.h"
#include "data/manifest.h"
#include "data/tokens/shard_manifest.h"
#include "tests/kernels/host_tensor.h"
#include "tests/train/tiny_run.h"
#include "train/checkpoint/run_folder.h"

namespace depthroute {
namespace {

namespace fs = std::filesystem;
using testing_support::is_one_line;
using testing_support::Result;

class TrainProgram : public testing_support::TinyRun {};

TEST_F(TrainProgram, BadInputIsStatusTwoOneLineAndNothingWritten) {
  struct Case {
    const char* setting;
    const char* said;
  };
  const std::string config = write_config("run", 5);
  for (const auto& [setting, said] : std::vector<Case>{
           {"optimizer.learning_rate=1", "optimizer.learning_rate"},
           {"train.steps=many", "train.steps"},
           {"train.micro_batch=3", "micro_batch"},
           {"model.head_dim=15", "head_dim"},
           {"optimizer.schedule=linear", "optimizer.schedule"},
           {"data.train=[missing_*.bin]", "missing_"},
           {"data.val=[missing.bin]", "missing.bin"},
           {"data.seq_len=4096", "data.seq_len"},
           {"model.from=nowhere", "nowhere"},
           {"checkpoint.resume=nowhere", "nowhere"},
           {"device=tpu", "device"},
       }) {
    const Result result = train(config, {"--set", setting});
    EXPECT_EQ(result.status, kExitBadInput) << setting;
    EXPECT_TRUE(is_one_line(result.err)) << setting;
    EXPECT_NE(result.err.find(said), std::string::npos) << setting << ": " << result.err;
    EXPECT_FALSE(exists(path("run"))) << setting;
  }
}

TEST_F(TrainProgram, ATokenOutsideTheVocabularyNamesItsShard) {
  const std::string config = write_config("run", 60);
  const Result result = train(config, {"--set", "model.vocab_size=200"});
  EXPECT_EQ(result.status, kExitBadInput);
  EXPECT_NE(result.err.find(".bin"), std::string::npos) << result.err;
}

TEST_F(TrainProgram, WhatManifestsSayOfTheDataHolds) {
  const std::string config = write_config("run", 5);
  ShardManifest manifest{.name = "b", .vocab_size = 256, .token_bytes = 2};
  manifest.tokenizer = TokenizerIdentity{"small", "0123", "tokenizer.json"};
  manifest.files = {{"b.bin", 3, hash_file(path("b.bin"))}};
  const auto refused = [&](const std::string& said) {
    write_shard_manifest(folder_, manifest);
    const Result result = train(config);
    EXPECT_EQ(result.status, kExitBadInput);
    EXPECT_TRUE(is_one_line(result.err)) << result.err;
    EXPECT_NE(result.err.find(said), std::string::npos) << result.err;
    EXPECT_FALSE(exists(path("run")));
  };
  manifest.vocab_size = 257;
  refused(
      "b.shards.json: its tokenizer small (0123) has 257 tokens, more than the model's vocabulary of 256");
  manifest.vocab_size = 256;
  manifest.files[0].checksum[0] ^= 1;
  refused("b.bin: its checksum is");
  manifest.files[0].checksum[0] ^= 1;
  ShardManifest other = manifest;
  other.name = "other";
  other.tokenizer->checksum = "4567";
  other.files = {{"val.bin", 170, hash_file(path("val.bin"))}};
  write_shard_manifest(folder_, other);
  refused("data.train is of the tokenizer small (0123), data.val of small (4567)");
  fs::remove(path("other.shards.json"));
  ASSERT_EQ(train(config).status, 0);
  const auto state = nlohmann::json::parse(read_file(checkpoint("run", 5) + "/state.json"));
  EXPECT_EQ(state["tokenizer"], (nlohmann::json{{"name", "small"}, {"checksum", "0123"}}));

  // The tokenizer beside the shards travels with the model, if it is the one that made them.
  std::ofstream(path("tokenizer.json")) << "{}";
  std::ofstream(path("tokenizer_config.json")) << "{\"eos_token\": \"x\"}";
  fs::remove_all(path("run"));
  refused("tokenizer.json: its checksum is");
  manifest.tokenizer->checksum = hash_file(path("tokenizer.json"));
  write_shard_manifest(folder_, manifest);
  ASSERT_EQ(train(config).status, 0);
  EXPECT_EQ(read_file(checkpoint("run", 5) + "/model/tokenizer.json"), "{}");
  EXPECT_TRUE(exists(checkpoint("run", 5) + "/model/tokenizer_config.json"));
}

TEST_F(TrainProgram, TwoRunsCannotWriteOneFolder) {
  const std::string config = write_config("run", 5);
  {
    const RunLock lock(path("run"));
    const Result result = train(config);
    EXPECT_EQ(result.status, kExitBadInput);
    EXPECT_TRUE(is_one_line(result.err));
    EXPECT_NE(result.err.find("run/lock"), std::string::npos) << result.err;
    EXPECT_FALSE(exists(metrics_path(path("run"))));
  }
  EXPECT_EQ(train(config).status, 0);
}

TEST_F(TrainProgram, ModelFromGoesOnFromItsWeightsAndShape) {
  ASSERT_EQ(train(write_config("first", 7)).status, 0);
  const std::string config = write_config("second", 1), from = "model.from=" + path("first");
  // Rate zero: what is saved is what was loaded. The configuration's own shape says otherwise nowhere.
  const Result result =
      train(config, {"--set", from, "--set", "optimizer.lr=1e-30", "--set", "optimizer.lr_min=0"});
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_TRUE(read_file(checkpoint("first", 7) + "/model/model.safetensors") ==
              read_file(checkpoint("second", 1) + "/model/model.safetensors"));

  const Result contradiction =
      train(write_config("third", 1), {"--set", from, "--set", "model.hidden_size=48"});
  EXPECT_EQ(contradiction.status, kExitBadInput);
  EXPECT_NE(contradiction.err.find("model.hidden_size is 48"), std::string::npos) << contradiction.err;
}

// Saved before the first step, the weights are those a run starts from; nothing else changes, and the run can go on from there.
TEST_F(TrainProgram, TheInitialCheckpointIsTheUntrainedModelAndIsKept) {
  const std::vector<std::string> initial = {"--set", "checkpoint.initial=true", "--set", "checkpoint.keep=1"};
  ASSERT_EQ(train(write_config("without", 21)).status, 0);
  ASSERT_EQ(train(write_config("with", 21), initial).status, 0);
  expect_same_run("without", "with", 21);
  const std::string weights = "/model/model.safetensors";
  ASSERT_EQ(
      train(write_config("untouched", 1), {"--set", "optimizer.lr=1e-30", "--set", "optimizer.lr_min=0"})
          .status,
      0);
  EXPECT_TRUE(read_file(checkpoint("untouched", 1) + weights) == read_file(checkpoint("with", 0) + weights));
  EXPECT_FALSE(exists(checkpoint("with", 14))) << "keep: 1";

  std::filesystem::remove_all(checkpoint("with", 21));
  const Result resumed = train(path("with.yaml"), initial);
  ASSERT_EQ(resumed.status, 0) << resumed.err;
  EXPECT_NE(resumed.out.find("resuming after step 0"), std::string::npos) << resumed.out;
  expect_same_run("without", "with", 21);
}

// A key counts as given even with its default value: what it asks for must not be ignored silently.
TEST_F(TrainProgram, KeysGivenBesideModelFromMustAgreeWithIt) {
  ASSERT_EQ(train(write_config("plain", 7), {"--set", "model.residual.variant=additive"}).status, 0);
  ASSERT_EQ(train(write_config("routed", 7)).status, 0);
  const auto config = [&](const std::string& output, const std::string& model) {
    std::ofstream(path(output + ".yaml"))
        << "output: " << path(output) << "\ndevice: " << to_string(test::device()) << "\nprecision: fp32\n"
        << "data: {train: [" << path("a.bin") << "], seq_len: 32}\nmodel: {" << model << "}\n"
        << "train: {steps: 1, global_batch: 4, micro_batch: 2}\noptimizer: {warmup: 0}\n";
    return path(output + ".yaml");
  };
  const auto refused = [&](const std::string& folder, const std::string& key, const std::string& value,
                           const std::string& has) {
    const std::string file = config("refused", "from: " + path(folder));
    const Result result = train(file, {"--set", "model." + key + "=" + value});
    EXPECT_EQ(result.status, kExitBadInput) << key << result.out;
    EXPECT_TRUE(is_one_line(result.err));
    EXPECT_NE(result.err.find("model." + key + " is " + value), std::string::npos) << result.err;
    EXPECT_NE(result.err.find(has), std::string::npos) << result.err;
    EXPECT_NE(result.err.find("remove the key"), std::string::npos) << result.err;
    EXPECT_FALSE(exists(path("refused")));
  };
  refused("plain", "residual.variant", "cumulative", "a plain model (additive)");  // the default
  refused("plain", "residual.num_blocks", "8", "a plain model (additive)");        // the default
  refused("plain", "residual.recency_bias", "0", "a plain model (additive)");      // the default
  refused("routed", "residual.variant", "cumulative", "has kimi");                 // the default
  refused("routed", "residual.num_blocks", "1", "has 2 sublayers per block");
  refused("routed", "hidden_size", "1024", "has 32");  // the default
  refused("routed", "rope_theta", "10000", "has 1000000");
  refused("routed", "tie_embeddings", "false", "has true");
  refused("routed", "qk_norm", "false", "has true");

  const std::string in_file =
      config("in_file", "from: " + path("plain") + ", residual: {variant: cumulative}");
  EXPECT_EQ(train(in_file).status, kExitBadInput);
  EXPECT_FALSE(exists(path("in_file")));

  const auto accepted = [&](const std::string& output, const std::string& folder, const std::string& more) {
    const Result result = train(config(output, "from: " + path(folder) + more));
    EXPECT_EQ(result.status, 0) << output << result.err;
  };
  accepted("nothing_given", "plain", "");
  accepted("plain_said", "plain", ", hidden_size: 32, residual: {variant: additive, num_blocks: 4}");
  accepted("shape_said", "routed", ", num_layers: 2, residual: {variant: kimi, sublayers_per_block: 2}");
  accepted("null_is_not_given", "routed", ", residual: {variant: kimi, num_blocks: null}");
}

// A learning rate of 1e38 makes the next update the last finite thing the run computes.
TEST_F(TrainProgram, NonFiniteStepsAreSkippedCountedAndStopTheRunWithoutDrivingOutGoodCheckpoints) {
  const std::string config = write_config("run", 20);
  const std::vector<std::string> often = {
      "--set", "train.max_bad_steps=3", "--set", "checkpoint.every=1",
      "--set", "checkpoint.keep=2",     "--set", "optimizer.schedule=constant"};
  std::vector<std::string> short_run = often, exploding = often;
  short_run.insert(short_run.end(), {"--set", "train.steps=10"});
  exploding.insert(exploding.end(),
                   {"--set", "optimizer.lr=1e38", "--set", "checkpoint.accept_changes=true"});
  ASSERT_EQ(train(config, short_run).status, 0);
  const std::string good = checkpoint("run", 10) + "/model/model.safetensors", before = read_file(good);

  const Result result = train(config, exploding);
  EXPECT_EQ(result.status, kExitFailure);
  EXPECT_TRUE(is_one_line(result.err));
  EXPECT_NE(result.err.find("step 14: loss"), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("3 steps in a row"), std::string::npos) << result.err;
  const std::vector<nlohmann::json> lines = metrics("run");
  EXPECT_EQ(lines.back()["skipped"], 3);
  EXPECT_EQ(lines.back()["step"], 14);
  for (const CheckpointFolder& folder : list_checkpoints(path("run"))) {
    EXPECT_LE(folder.step, 11) << "saved after a step that was not finite";
    EXPECT_NO_THROW(verify_manifest(folder.path));
  }
  EXPECT_TRUE(read_file(good) == before);
}

TEST_F(TrainProgram, DryRunAndPrintConfigWriteNothing) {
  const std::string config = write_config("run", 40);
  const Result dry = train(config, {"--dry-run"});
  EXPECT_EQ(dry.status, 0) << dry.err;
  for (const char* part : {"parameters (embedding 8,192", "GFLOP per token", "sources per site",
                           "2,099 tokens in 3 shards", "2.462 epochs", "optimizer", "total"})
    EXPECT_NE(dry.out.find(part), std::string::npos) << part << "\n" << dry.out;
  const Result missing = train(config, {"--dry-run", "--set", "data.train=[later_*.bin]"});
  EXPECT_EQ(missing.status, 0) << missing.err;
  EXPECT_NE(missing.out.find("note: later_*.bin does not exist yet"), std::string::npos) << missing.out;

  const Result printed = train(config, {"--print-config"});
  EXPECT_EQ(printed.status, 0);
  EXPECT_EQ(printed.out, read_file(config));
  EXPECT_FALSE(exists(path("run")));
}

}  // namespace
}  // namespace depthroute
