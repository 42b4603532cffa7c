// depthroute-train on several sources, one of them a Megatron-LM dataset: killed, resumed, refused.
#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <random>

#include "configs/base/error.h"
#include "configs/read.h"
#include "data/files.h"
#include "data/tokens/token_stream.h"
#include "tests/support/megatron_dataset.h"
#include "tests/train/tiny_run.h"
#include "train/checkpoint/run_folder.h"

namespace depthroute {
namespace {

namespace fs = std::filesystem;
using testing_support::is_one_line;
using testing_support::Program;
using testing_support::Result;

/// Two sources: 21 samples of 32 tokens in a.bin and b.bin together, 12 in d.idx.
class MixProgram : public testing_support::TinyRun {
 protected:
  void SetUp() override {
    TinyRun::SetUp();
    write_dataset("d", 7);
  }

  void write_dataset(const std::string& name, uint32_t seed) const {
    std::mt19937 random(seed);
    MegatronDataset dataset(3);
    for (int document = 0; document < 40; ++document) {
      std::vector<int64_t> tokens(10);
      for (int64_t& token : tokens) token = static_cast<int64_t>(random() % 256);
      dataset.document({tokens});
    }
    dataset.write(path(name));
  }

  std::string write_mix(const std::string& output, int64_t steps) {
    const std::string file = write_config(output, steps);
    TrainConfig config = read_train_config(file);
    config.data.train.clear();
    config.data.mix = {{{path("a.bin"), path("b.bin")}, 0.7}, {{path("d.idx")}, 0.3}};
    std::ofstream(file) << to_yaml(config);
    return file;
  }

  void expect_refused(const std::string& config, const std::vector<std::string>& set,
                      const std::vector<std::string>& said) {
    std::vector<std::string> arguments;
    for (const std::string& key : set) arguments.insert(arguments.end(), {"--set", key});
    const Result result = train(config, arguments);
    EXPECT_EQ(result.status, kExitBadInput);
    EXPECT_TRUE(is_one_line(result.err));
    for (const std::string& part : said) EXPECT_NE(result.err.find(part), std::string::npos) << result.err;
  }
};

TEST_F(MixProgram, KilledAndResumedItIsBitForBitTheUninterruptedRun) {
  constexpr int64_t kSteps = 120;
  const std::string straight = write_mix("straight", kSteps), broken = write_mix("broken", kSteps);
  const Result whole = train(straight);
  ASSERT_EQ(whole.status, 0) << whole.err;
  std::mt19937 random(6);
  int kills = 0;
  fs::create_directories(checkpoints_path(path("broken")));
  for (int attempt = 0; attempt < 5; ++attempt) {
    Program program("depthroute-train", {broken}, folder_);
    program.watch(path("broken"));
    program.watch(checkpoints_path(path("broken")));
    if (program.wait_for_events(1 + static_cast<int>(random() % 45))) program.send(SIGKILL);
    kills += program.wait().status == 128 + SIGKILL;
  }
  EXPECT_GE(kills, 2);
  const Result last = train(broken);
  ASSERT_EQ(last.status, 0) << last.err;
  expect_same_run("straight", "broken", kSteps);

  // 480 sequences: 336 of the first source's 21 in 16 epochs, 144 of the second's 12 in 12.
  const nlohmann::json end = metrics("straight")[kSteps + 3];  // 4 validations before it
  EXPECT_EQ(end["step"], kSteps);
  EXPECT_EQ(end["source_epochs"], (nlohmann::json{(336 - 1) / 21, (144 - 1) / 12}));
  EXPECT_EQ(end["epoch"], 11);
}

TEST_F(MixProgram, ASingleSourceTrainsAsDataTrainDoes) {
  ASSERT_EQ(train(write_config("plain", 21)).status, 0);
  const std::string file = write_config("mixed", 21);
  TrainConfig config = read_train_config(file);
  config.data.mix = {{config.data.train, 2.5}};
  config.data.train.clear();
  std::ofstream(file) << to_yaml(config);
  ASSERT_EQ(train(file).status, 0);
  expect_same_run("plain", "mixed", 21);
}

TEST_F(MixProgram, ChangedWeightsSourcesAndTokensAreRefused) {
  const std::string config = write_mix("run", 14);
  ASSERT_EQ(train(config).status, 0);
  const std::string log = read_file(metrics_path(path("run")));
  expect_refused(config, {"data.mix.0.weight=0.5"}, {"data.mix[0].weight was 0.7, is 0.5", "accept_changes"});
  const std::string third = "{shards: [" + path("c.bin") + "], weight: 0.3}";
  const std::string first = "{shards: [" + path("a.bin") + ", " + path("b.bin") + "], weight: 0.7}";
  const std::string second = "{shards: [" + path("d.idx") + "], weight: 0.3}";
  expect_refused(config, {"data.mix=[" + first + ", " + second + ", " + third + "]"},
                 {"data.mix[2].weight was not there, is 0.3", "the tokens of data.mix have changed"});
  expect_refused(config, {"data.mix=[" + first + "]"}, {"data.mix[1].weight was 0.3, is not there"});
  // A shard moved from one source to another.
  expect_refused(config,
                 {"data.mix=[{shards: [" + path("a.bin") + "], weight: 0.7}, {shards: [" + path("b.bin") +
                  ", " + path("d.idx") + "], weight: 0.3}]"},
                 {"the tokens of data.mix have changed"});
  EXPECT_EQ(read_file(metrics_path(path("run"))), log);

  // The same files elsewhere are no change.
  fs::create_directories(path("moved"));
  for (const char* name : {"d.idx", "d.bin"}) fs::copy(path(name), path("moved/") + name);
  const Result moved = train(config, {"--set", "data.mix.1.shards=[" + path("moved/*.idx") + "]"});
  EXPECT_EQ(moved.status, 0) << moved.err;

  write_dataset("d", 8);
  expect_refused(config, {}, {"the tokens of data.mix have changed"});
}

TEST_F(MixProgram, WhatCannotBeMixedIsRefusedBeforeAnythingIsWritten) {
  const std::string config = write_mix("run", 14);
  expect_refused(config, {"data.train=[" + path("a.bin") + "]"}, {"data.train and data.mix both say"});
  expect_refused(config, {"data.mix.1.weight=0.30000007"},
                 {"data.mix: the weights 0.7, 0.30000007 are in no ratio"});
  expect_refused(config, {"data.mix.1.shards=[" + path("d.bin") + "]"},
                 {"a Megatron-LM dataset is named by its index: " + path("d.idx")});
  expect_refused(config, {"data.mix.1.shards=[" + path("b.bin") + "]"},
                 {path("b.bin") + ": 3 tokens are too few"});
  MegatronDataset(3).document({std::vector<int64_t>(100, 7), {255, 256}}).write(path("e"));
  expect_refused(config, {"data.mix.1.shards=[" + path("e.idx") + "]"},
                 {path("e.idx") + ": token 101 (of 102) is 256, outside the vocabulary of 256"});
  EXPECT_FALSE(exists(path("run")));
}

TEST_F(MixProgram, ADryRunSaysHowMuchOfEachSourceIsDrawn) {
  const std::string config = write_mix("run", 30);
  const Result result = train(config, {"--dry-run"});
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_NE(result.out.find(
                "data.mix      2 sources, drawn from in a cycle of 10 sequences\n"
                "  70 %        704 tokens in 2 shards, 21 sequences of 32: 4.000 epochs will be seen\n"
                "  30 %        400 tokens in 1 shards, 12 sequences of 32: 3.000 epochs will be seen\n"),
            std::string::npos)
      << result.out;
  EXPECT_FALSE(exists(path("run")));
  const Result later = train(config, {"--dry-run", "--set", "data.mix.1.shards=[later.bin]"});
  EXPECT_NE(later.out.find("  30 %        note: later.bin does not exist yet"), std::string::npos)
      << later.out;
}

}  // namespace
}  // namespace depthroute
