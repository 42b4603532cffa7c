// depthroute-train's start: what it makes of a folder in which things are not as it left them.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "configs/base/error.h"
#include "data/atomic_path.h"
#include "data/checkpoint_folder.h"
#include "data/files.h"
#include "data/tokens/token_stream.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"
#include "tests/train/tiny_run.h"
#include "train/checkpoint/run_folder.h"

namespace depthroute {
namespace {

namespace fs = std::filesystem;
using testing_support::is_one_line;
using testing_support::Program;
using testing_support::Result;

class StartProgram : public testing_support::TinyRun {
 protected:
  /// A run that has done 14 of 21 steps.
  std::string half_done(const std::string& output) {
    const std::string config = write_config(output, 21);
    EXPECT_EQ(train(config).status, 0);
    fs::remove_all(checkpoint(output, 21));
    replace_symlink(checkpoint_name(14), latest_path(path(output)));
    return config;
  }
  std::string latest(const std::string& output) const {
    return fs::read_symlink(latest_path(path(output))).string();
  }
  void expect_refused(const std::string& config, const std::string& said, int status = kExitBadInput) {
    const Result result = train(config);
    EXPECT_EQ(result.status, status) << said;
    EXPECT_TRUE(is_one_line(result.err));
    EXPECT_NE(result.err.find(said), std::string::npos) << result.err;
  }
};

// A link that leads to itself stands for a file system that cannot list the folder: root may read everything.
TEST_F(StartProgram, CheckpointsThatCannotBeListedAreNotTakenForNone) {
  const std::string config = half_done("run"), log = read_file(metrics_path(path("run")));
  const std::string checkpoints = checkpoints_path(path("run"));
  fs::rename(checkpoints, path("aside"));
  fs::create_symlink("checkpoints", checkpoints);
  expect_refused(config, "cannot be listed");
  EXPECT_EQ(read_file(metrics_path(path("run"))), log);
  fs::remove(checkpoints);
  std::ofstream(checkpoints) << "a file";
  expect_refused(config, "is not a folder");
  fs::remove(checkpoints);
  fs::rename(path("aside"), checkpoints);
  EXPECT_NE(train(config).out.find("resuming after step 14"), std::string::npos);
}

// Tokenizer, ids and length of model.from are in every checkpoint, and survive without the folder they came from.
TEST_F(StartProgram, CompanionsOfTheModelTravelIntoEveryCheckpoint) {
  ASSERT_EQ(train(write_config("first", 7)).status, 0);
  const std::string source = path("source"), first = checkpoint_model_path(checkpoint("first", 7));
  const auto config_json = [](const std::string& folder) {
    return nlohmann::json::parse(read_file(folder + "/config.json"));
  };
  EXPECT_EQ(config_json(first).at("max_position_embeddings"), 32);
  fs::copy(first, source);
  nlohmann::json root = config_json(first);
  root["eos_token_id"] = {3, 4};
  root["max_position_embeddings"] = 1000;
  write_raw(source + "/config.json", root.dump());
  write_raw(source + "/tokenizer.json", "{\"model\": 1}");
  write_raw(source + "/notes.txt", "not a model's");
  const std::string config = write_config("second", 14), from = "model.from=" + source;
  ASSERT_EQ(train(config, {"--set", from, "--set", "train.steps=7"}).status, 0);
  ASSERT_EQ(fs::remove_all(source), 5u);
  const Result resumed =
      train(write_config("second", 14), {"--set", from, "--set", "checkpoint.accept_changes=true"});
  ASSERT_EQ(resumed.status, 0) << resumed.err;
  for (const int64_t step : {7, 14}) {
    const std::string model = checkpoint_model_path(checkpoint("second", step));
    EXPECT_EQ(read_file(model + "/tokenizer.json"), "{\"model\": 1}") << step;
    EXPECT_FALSE(exists(model + "/notes.txt"));
    EXPECT_EQ(config_json(model).at("eos_token_id"), nlohmann::json::array({3, 4}));
    EXPECT_EQ(config_json(model).at("max_position_embeddings"), 1000);
  }
  write_raw(checkpoint_model_path(checkpoint("second", 14)) + "/tokenizer.json", "{\"model\": 2}");
  EXPECT_TRUE(has(message_of([&] { verify_checkpoint_folder(checkpoint("second", 14)); }), "tokenizer.json"));
}

TEST_F(StartProgram, ACheckpointThatCannotBeReadStopsTheRunInsteadOfBeingTrainedOver) {
  const std::string config = half_done("run"), state = checkpoint("run", 14) + "/state.json";
  fs::rename(state, path("aside"));
  fs::create_symlink("state.json", state);
  expect_refused(config, "step_00000014/state.json: cannot be accessed");
  fs::remove(state);
  fs::rename(path("aside"), state);
  EXPECT_EQ(train(config).status, 0);
}

TEST_F(StartProgram, EveryStartMendsTheLinkToTheNewestCheckpoint) {
  const std::string config = write_config("run", 21), link = latest_path(path("run"));
  ASSERT_EQ(train(config).status, 0);
  const auto remove_it = [&] { fs::remove_all(link); };
  const auto link_to = [&](const char* name) {
    remove_it();
    fs::create_symlink(name, link);
  };
  const std::vector<std::pair<std::string, std::function<void()>>> damages = {
      {"missing", remove_it},
      {"stale", [&] { link_to("step_00000014"); }},
      {"dangling", [&] { link_to("step_00000020"); }},
      {"an empty folder", [&] { remove_it(), fs::create_directory(link); }},
      {"a copy of the checkpoint, as cp -rL makes it",
       [&] { remove_it(), fs::copy(checkpoint("run", 21), link, fs::copy_options::recursive); }},
      {"the only copy of the checkpoint", [&] { remove_it(), fs::rename(checkpoint("run", 21), link); }},
  };
  for (const auto& [what, damage] : damages) {
    damage();
    const Result result = train(config);
    EXPECT_EQ(result.status, 0) << what << ": " << result.err;
    EXPECT_NE(result.out.find("nothing to do"), std::string::npos) << what << ": " << result.out;
    EXPECT_EQ(latest("run"), "step_00000021") << what;
    EXPECT_NO_THROW(verify_checkpoint_folder(checkpoint("run", 21))) << what;
  }
  remove_it();
  fs::create_directory(link);
  std::ofstream(link + "/notes") << "mine";
  expect_refused(config, "is a folder where a link belongs");
  EXPECT_TRUE(exists(link + "/notes"));
}

TEST_F(StartProgram, AFolderNamedAfterAnotherStepIsPassedOver) {
  const std::string config = half_done("run");
  fs::copy(checkpoint("run", 7), checkpoint("run", 99), fs::copy_options::recursive);
  const Result result = train(config);
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_NE(result.err.find("named after step 99, but it holds step 7"), std::string::npos) << result.err;
  EXPECT_NE(result.out.find("resuming after step 14"), std::string::npos) << result.out;
}

TEST_F(StartProgram, TokensChangedAnywhereAreNoticed) {
  const auto write = [&](const std::string& name, int32_t middle) {
    std::vector<int32_t> tokens(300'000, 7);  // 600 kB: the ends alone would not show it
    tokens[150'000] = middle;
    ShardWriter writer(path(name), 256);
    writer.append(tokens);
    writer.close();
  };
  write("big.bin", 8);
  const std::string config = write_config("run", 14);
  const std::string data = "data.train=[" + path("big.bin") + "]";
  const auto run = [&] { return train(config, {"--set", data}); };
  ASSERT_EQ(run().status, 0);
  EXPECT_EQ(run().status, 0);
  write("big.bin", 9);
  const Result changed = run();
  EXPECT_EQ(changed.status, kExitBadInput);
  EXPECT_NE(changed.err.find("the tokens of data.train have changed"), std::string::npos) << changed.err;
  write("big.bin", 8);
  EXPECT_EQ(run().status, 0);

  fs::rename(path("val.bin"), path("old_val.bin"));
  fs::copy(path("a.bin"), path("val.bin"));
  const Result validation = run();
  EXPECT_EQ(validation.status, kExitBadInput);
  EXPECT_NE(validation.err.find("the tokens of data.val have changed"), std::string::npos) << validation.err;
  EXPECT_EQ(train(config, {"--set", data, "--set", "validate.every=0"}).status, 0)
      << "not validating is no change";
}

TEST_F(StartProgram, ATokenOutsideTheVocabularyIsFoundBeforeAnythingIsWritten) {
  std::vector<int32_t> tokens(200'000, 7);
  tokens[199'000] = 300;
  ShardWriter writer(path("late.bin"), 400);
  writer.append(tokens);
  writer.close();
  const Result result = train(write_config("run", 7), {"--set", "data.train=[" + path("late.bin") + "]"});
  EXPECT_EQ(result.status, kExitBadInput);
  EXPECT_TRUE(is_one_line(result.err));
  EXPECT_NE(result.err.find("late.bin: token 199000 (of 200000) is 300"), std::string::npos) << result.err;
  EXPECT_FALSE(exists(path("run")));
}

TEST_F(StartProgram, InputsThatAreNoFilesAreRefusedAtOnce) {
  ASSERT_EQ(::mkfifo(path("fifo.bin").c_str(), 0600), 0);
  for (const std::string& input : {path("fifo.bin"), std::string("/dev/zero")}) {
    const Result result = train(write_config("run", 7), {"--set", "data.train=[" + input + "]"});
    EXPECT_EQ(result.status, kExitBadInput);
    EXPECT_NE(result.err.find(input + ": is a "), std::string::npos) << result.err;
    EXPECT_FALSE(exists(path("run")));
  }
}

TEST_F(StartProgram, AFileInTheOutputsPlaceIsRefused) {
  std::ofstream(path("run")) << "mine";
  expect_refused(write_config("run", 7), "is not a folder");
  EXPECT_EQ(read_file(path("run")), "mine");
}

TEST_F(StartProgram, WeightsThatAreNoNumbersAreNamedBeforeAnythingIsWritten) {
  ASSERT_EQ(train(write_config("healthy", 7)).status, 0);
  for (const float value :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    fs::remove_all(path("poisoned"));
    fs::copy(checkpoint("healthy", 7) + "/model", path("poisoned"), fs::copy_options::recursive);
    poison(path("poisoned/model.safetensors"), "model.norm.weight", value);
    const Result result = train(write_config("run", 7), {"--set", "model.from=" + path("poisoned")});
    EXPECT_EQ(result.status, kExitBadInput);
    EXPECT_TRUE(is_one_line(result.err));
    EXPECT_NE(result.err.find("model.norm.weight"), std::string::npos) << result.err;
    EXPECT_FALSE(exists(path("run")));
  }
}

// The second run looks for checkpoints, is stopped before it takes the lock, and goes on when the first one
// has finished.
TEST_F(StartProgram, ARunThatFinishesBetweenLookAndLockIsNotOverwritten) {
  const std::string strace = "/usr/bin/strace", trace = path("traced/log");
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "sanitizers do not bear being traced";
#endif
  if (!exists(strace)) GTEST_SKIP() << "strace is not installed";
  fs::create_directory(path("traced"));
  std::ofstream(trace).close();
  const std::string config = write_config("run", 14);
  Program second(strace,
                 {"-f", "-o", trace, "-P", path("c.bin"), "-e", "trace=openat", "-e",
                  "inject=openat:signal=SIGSTOP:when=1", test_paths::bin() + "/depthroute-train", config},
                 path("traced"));
  second.watch(path("traced"));
  std::string log;
  while ((log = read_file(trace)).find("--- stopped by SIGSTOP") == std::string::npos)
    if (!second.wait_for_events(1)) GTEST_SKIP() << "strace cannot trace here: " << second.wait().err;
  const size_t line = log.rfind('\n', log.find("--- stopped by SIGSTOP"));
  const pid_t stopped = std::stoi(log.substr(line == std::string::npos ? 0 : line + 1));
  const Result first = train(config);
  ASSERT_EQ(first.status, 0) << first.err;
  const std::string weights = read_file(checkpoint("run", 14) + "/model/model.safetensors");
  const auto written = fs::last_write_time(checkpoint("run", 14) + "/manifest.json");
  kill(stopped, SIGCONT);
  const Result result = second.wait();
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_NE(result.out.find("nothing to do"), std::string::npos) << result.out;
  EXPECT_EQ(fs::last_write_time(checkpoint("run", 14) + "/manifest.json"), written);
  EXPECT_TRUE(read_file(checkpoint("run", 14) + "/model/model.safetensors") == weights);
}

}  // namespace
}  // namespace depthroute
