// Stopping and resuming: however often a run is killed, it ends with the same bits as an undisturbed one. The
// shards are small, so the runs here cross shard and epoch borders many times.
#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <random>

#include "configs/base/error.h"
#include "data/files.h"
#include "data/manifest.h"
#include "data/tokens/token_stream.h"
#include "tests/train/tiny_run.h"
#include "train/checkpoint/run_folder.h"

namespace depthroute {
namespace {

namespace fs = std::filesystem;
using testing_support::is_one_line;
using testing_support::Program;
using testing_support::Result;

class Resume : public testing_support::TinyRun {
 protected:
  /// A run started over after SIGKILL, or whatever `signal` is, at the given numbers of file events.
  Result interrupted(const std::string& config, const std::string& output, int signal, int events) {
    fs::create_directories(checkpoints_path(path(output)));
    Program program("depthroute-train", {config}, folder_);
    program.watch(path(output));
    program.watch(checkpoints_path(path(output)));
    if (program.wait_for_events(events)) program.send(signal);
    return program.wait();
  }
};

TEST_F(Resume, AfterTwentyKillsTheRunIsBitForBitTheUninterruptedOne) {
  constexpr int64_t kSteps = 400;
  const std::string straight = write_config("straight", kSteps), broken = write_config("broken", kSteps);
  ASSERT_EQ(train(straight).status, 0);

  std::mt19937 random(20);
  int kills = 0, leftovers = 0;
  Result result;
  for (int attempt = 0; attempt < 20; ++attempt) {
    // A step is one event, a checkpoint (every 7 steps) a few: kills fall into both.
    result = interrupted(broken, "broken", SIGKILL, 1 + static_cast<int>(random() % 45));
    if (result.status == 0) break;
    ASSERT_EQ(result.status, 128 + SIGKILL) << result.err;
    ++kills;
    for (const fs::directory_entry& entry : fs::directory_iterator(checkpoints_path(path("broken"))))
      leftovers += entry.path().string().find(".tmp-") != std::string::npos;
  }
  result = train(broken);
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(result.err, "") << "a kill must never leave a damaged checkpoint";
  EXPECT_GE(kills, 5) << "the machine let the runs finish before they could be killed";
  EXPECT_GE(leftovers, 1) << "no kill fell into a checkpoint";
  expect_same_run("straight", "broken", kSteps);
  for (const fs::directory_entry& entry : fs::directory_iterator(checkpoints_path(path("broken"))))
    EXPECT_EQ(entry.path().string().find(".tmp-"), std::string::npos) << entry.path();
}

TEST_F(Resume, SignalsStopWithACheckpointAndStatusThree) {
  constexpr int64_t kSteps = 300;
  ASSERT_EQ(train(write_config("straight", kSteps)).status, 0);
  for (const int signal : {SIGTERM, SIGUSR1, SIGINT}) {
    const std::string output = "signal_" + std::to_string(signal), config = write_config(output, kSteps);
    const Result stopped = interrupted(config, output, signal, 10);
    ASSERT_EQ(stopped.status, kExitInterrupted) << stopped.err;
    EXPECT_NE(stopped.out.find("run the same command again to resume"), std::string::npos) << stopped.out;
    const std::vector<CheckpointFolder> checkpoints = list_checkpoints(path(output));
    ASSERT_FALSE(checkpoints.empty());
    EXPECT_EQ(verify_manifest(checkpoints.back().path).step, metrics(output).back()["step"].get<int64_t>())
        << "the checkpoint is of the last logged step";
    ASSERT_EQ(train(config).status, 0);
    expect_same_run("straight", output, kSteps);
  }
}

TEST_F(Resume, ADamagedNewestCheckpointFallsBackWithAWarning) {
  const std::string config = write_config("run", 21);
  ASSERT_EQ(train(config).status, 0);
  const std::string weights = checkpoint("run", 21) + "/model/model.safetensors", before = read_file(weights);
  for (const char* file :
       {"/model/model.safetensors", "/optimizer.safetensors", "/state.json", "/config.yaml"}) {
    flip_byte(checkpoint("run", 21) + file, 8);
    const Result result = train(config);
    ASSERT_EQ(result.status, 0) << result.err;
    EXPECT_TRUE(is_one_line(result.err));
    EXPECT_NE(result.err.find("step_00000021"), std::string::npos) << result.err;
    EXPECT_NE(result.out.find("resuming after step 14"), std::string::npos) << result.out;
    EXPECT_TRUE(read_file(weights) == before) << file;
    EXPECT_EQ(metrics("run").size(), 22U) << "21 steps and the last validation";
  }
  fs::remove(checkpoint("run", 21) + "/manifest.json");
  EXPECT_NE(train(config).out.find("resuming after step 14"), std::string::npos);
  for (const CheckpointFolder& folder : list_checkpoints(path("run")))
    flip_byte(folder.path + "/state.json", 8);
  const Result none = train(config);
  EXPECT_EQ(none.status, kExitBadInput);
  EXPECT_NE(none.err.find("every checkpoint is damaged"), std::string::npos) << none.err;
}

TEST_F(Resume, KeepsTheNewestCheckpointsAndAnsweringAFinishedRunIsFree) {
  const std::string config = write_config("run", 40);
  ASSERT_EQ(train(config).status, 0);
  std::vector<int64_t> steps;
  for (const CheckpointFolder& folder : list_checkpoints(path("run"))) steps.push_back(folder.step);
  EXPECT_EQ(steps, (std::vector<int64_t>{28, 35, 40}));
  EXPECT_EQ(fs::read_symlink(checkpoints_path(path("run")) + "/latest"), "step_00000040");
  const std::string log = read_file(metrics_path(path("run")));
  EXPECT_EQ(train(config).status, 0);
  EXPECT_EQ(read_file(metrics_path(path("run"))), log);
}

TEST_F(Resume, ChangedSettingsAndDataAreRefusedUnlessAccepted) {
  const std::string config = write_config("run", 14);
  ASSERT_EQ(train(config).status, 0);
  const std::string log = read_file(metrics_path(path("run")));
  const Result changed = train(config, {"--set", "optimizer.lr=0.001", "--set", "train.steps=20"});
  EXPECT_EQ(changed.status, kExitBadInput);
  EXPECT_TRUE(is_one_line(changed.err));
  for (const char* part : {"optimizer.lr was 0.003, is 0.001", "train.steps was 14, is 20", "accept_changes"})
    EXPECT_NE(changed.err.find(part), std::string::npos) << changed.err;

  // Keys that do not decide the numbers may change; so may the folder of the data.
  fs::create_directories(path("moved"));
  for (const char* name : {"a.bin", "b.bin", "c.bin"}) fs::copy(path(name), path("moved/") + name);
  const std::string moved =
      "data.train=[" + path("moved/a.bin") + "," + path("moved/b.bin") + "," + path("moved/c.bin") + "]";
  EXPECT_EQ(train(config, {"--set", "log.every=3", "--set", "validate.every=0", "--set", "checkpoint.keep=9",
                           "--set", moved})
                .status,
            0);

  ShardWriter writer(path("b.bin"), 256);
  writer.append(std::vector<int32_t>{1, 2, 3, 4});
  writer.close();
  const Result data = train(config);
  EXPECT_EQ(data.status, kExitBadInput);
  EXPECT_NE(data.err.find("tokens of data.train have changed"), std::string::npos) << data.err;
  EXPECT_EQ(read_file(metrics_path(path("run"))), log);

  const Result accepted = train(config, {"--set", "optimizer.lr=0.001", "--set", "train.steps=20", "--set",
                                         "checkpoint.accept_changes=true"});
  EXPECT_EQ(accepted.status, 0) << accepted.err;
  EXPECT_EQ(metrics("run").back()["step"], 20);
  for (const char* key : {"model.intermediate_size=64", "model.qk_norm=false"}) {
    const Result shape = train(config, {"--set", key, "--set", "checkpoint.accept_changes=true"});
    EXPECT_EQ(shape.status, kExitBadInput) << key << ": a checkpoint cannot become another model";
  }
}

TEST_F(Resume, NeverAndExplicitFoldersAreTakenLiterally) {
  const std::string config = write_config("run", 14), fork = write_config("fork", 14);
  ASSERT_EQ(train(config).status, 0);
  EXPECT_EQ(train(config, {"--set", "checkpoint.resume=never"}).status, kExitBadInput);
  const Result older = train(config, {"--set", "checkpoint.resume=" + checkpoint("run", 7)});
  EXPECT_EQ(older.status, kExitBadInput) << "step 14 in the same output would be lost";
  EXPECT_NE(older.err.find("already holds step 14"), std::string::npos) << older.err;
  const Result forked = train(fork, {"--set", "checkpoint.resume=" + checkpoint("run", 7)});
  ASSERT_EQ(forked.status, 0) << forked.err;
  EXPECT_TRUE(read_file(checkpoint("run", 14) + "/optimizer.safetensors") ==
              read_file(checkpoint("fork", 14) + "/optimizer.safetensors"));
  flip_byte(checkpoint("run", 7) + "/config.yaml", 3);
  EXPECT_EQ(train(write_config("fork2", 14), {"--set", "checkpoint.resume=" + checkpoint("run", 7)}).status,
            kExitBadInput);
  EXPECT_FALSE(exists(path("fork2")));
}

}  // namespace
}  // namespace depthroute
