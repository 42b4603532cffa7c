#include <atomic>
#include <nlohmann/json.hpp>
#include <thread>

#include "data/atomic_path.h"
#include "data/checkpoint_folder.h"
#include "data/files.h"
#include "tests/data/whole_manifest.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"

namespace depthroute {
namespace {

namespace fs = std::filesystem;

class CheckpointFolderTest : public testing::Test {
 protected:
  CheckpointFolderTest() { fs::create_directories(run_ + "/checkpoints"); }

  /// Writes a checkpoint whose weights are of this step alone, as training does: beside, then renamed.
  std::string write_checkpoint(int64_t step) {
    const std::string path = run_ + "/checkpoints/" + checkpoint_name(step);
    AtomicFolder folder(path);
    fs::create_directory(folder.path() + "/model");
    const std::vector<float> weights(4096, static_cast<float>(step));
    const TensorToWrite tensor{"w", {4096}, weights};
    write_model_folder(folder.path() + "/model", config_, std::span(&tensor, 1));
    write_raw(folder.path() + "/state.json", "{}");
    write_raw(folder.path() + "/config.yaml", "seed: 1");
    write_whole_manifest(folder.path(), kCheckpointKind, step);
    folder.commit();
    return path;
  }
  std::string refusal(const std::string& path) const {
    return message_of([&] { find_model_folder(path); });
  }
  void drop_from_manifest(const std::string& folder, const std::string& path) const {
    auto manifest = nlohmann::ordered_json::parse(read_file(folder + "/manifest.json"));
    auto& files = manifest["files"];
    for (size_t i = 0; i < files.size(); ++i)
      if (files[i]["path"] == path) files.erase(i--);
    write_raw(folder + "/manifest.json", manifest.dump());
  }

  const ModelConfig config_ = ModelFolder(test_paths::golden() + "/kimi").config();
  const TempFolder folder_;
  const std::string run_ = fs::canonical(folder_.path()).string() + "/run";
};

TEST_F(CheckpointFolderTest, NamesAndStepsAgree) {
  for (const int64_t step : {0, 7, 99999999, 123456789})
    EXPECT_EQ(step_of_checkpoint(checkpoint_name(step)), step);
  for (const char* name :
       {"step_1", "step_0000001x", "step_00000001.tmp-3", "latest", "step_0000000000000001"})
    EXPECT_FALSE(step_of_checkpoint(name)) << name;
}

TEST_F(CheckpointFolderTest, ModelFolderIsFoundFromEveryLevelBehindAllLinks) {
  const std::string step = write_checkpoint(3), latest = run_ + "/checkpoints/latest";
  replace_symlink(checkpoint_name(3), latest);
  fs::create_directory_symlink(run_, folder_ / "elsewhere");
  for (const std::string& path :
       {run_, step, latest, latest + "/model", step + "/model", folder_ / "elsewhere"})
    EXPECT_EQ(find_model_folder(path), step + "/model") << path;
  EXPECT_EQ(find_model_folder(test_paths::golden() + "/kimi"), resolve_links(test_paths::golden() + "/kimi"));
}

TEST_F(CheckpointFolderTest, FoldersThatHoldNoModelAreErrorsWithTheReason) {
  EXPECT_TRUE(has(refusal(folder_ / "absent"), "does not exist"));
  EXPECT_TRUE(has(refusal(folder_.path()), "neither a model folder"));
  replace_symlink("step_9", folder_ / "latest");
  EXPECT_TRUE(has(refusal(folder_ / "latest"), "a link to step_9, which does not exist"));
  fs::create_symlink("loop", folder_ / "loop");
  EXPECT_TRUE(has(message_of<AccessError>([&] { find_model_folder(folder_ / "loop"); }), "cannot be found"));
  const std::string step = write_checkpoint(3);
  write_raw(step + "/state.json", "[]");
  EXPECT_TRUE(has(refusal(step), "state.json: checksum"));
  EXPECT_TRUE(has(refusal(step + "/model"), "state.json: checksum"));
  fs::remove(step + "/manifest.json");
  EXPECT_TRUE(has(refusal(step), "without manifest.json is incomplete"));
  write_whole_manifest(step, "something else", 3);
  EXPECT_TRUE(has(refusal(step), "of kind \"something else\""));
}

TEST_F(CheckpointFolderTest, NameAndContentsMustAgree) {
  const std::string step = write_checkpoint(40), copy = run_ + "/checkpoints/" + checkpoint_name(99);
  fs::copy(step, copy, fs::copy_options::recursive);
  EXPECT_TRUE(has(refusal(copy), "named after step 99, but it holds step 40"));
  fs::rename(copy, run_ + "/my_copy");
  EXPECT_NO_THROW(find_model_folder(run_ + "/my_copy"));
}

TEST_F(CheckpointFolderTest, AManifestMustListWhatEveryCheckpointHas) {
  for (const char* name : {"state.json", "config.yaml", "model/config.json"}) {
    const std::string step = write_checkpoint(3);
    drop_from_manifest(step, name);
    EXPECT_TRUE(has(refusal(step), std::string("does not list ") + name));
  }
}

TEST_F(CheckpointFolderTest, WhatIsOpenedStaysWhatItWas) {
  write_checkpoint(1);
  replace_symlink(checkpoint_name(1), run_ + "/checkpoints/latest");
  const ModelFolder model = open_model(run_);
  const std::string checksum = model_checksum(model);
  write_checkpoint(2);
  replace_symlink(checkpoint_name(2), run_ + "/checkpoints/latest");
  EXPECT_NE(model_checksum(open_model(run_)), checksum);
  remove_folder(run_ + "/checkpoints/" + checkpoint_name(1));
  EXPECT_EQ(model_checksum(model), checksum) << "mapped, whatever became of the folder";
  EXPECT_EQ(model.path(), run_ + "/checkpoints/" + checkpoint_name(1) + "/model");
}

// A trainer that saves and prunes as fast as it can, and readers through `latest`: what is opened is whole,
// of one step, and of the step that its path names.
TEST_F(CheckpointFolderTest, BesideATrainerEveryModelIsOfTheStepItsPathNames) {
  write_checkpoint(1);
  replace_symlink(checkpoint_name(1), run_ + "/checkpoints/latest");
  std::atomic<bool> stop = false;
  std::thread trainer([&] {
    for (int64_t step = 2; !stop; ++step) {
      write_checkpoint(step);
      replace_symlink(checkpoint_name(step), run_ + "/checkpoints/latest");
      remove_folder(run_ + "/checkpoints/" + checkpoint_name(step - 1));
    }
  });
  int opened = 0;
  for (int i = 0; i < 60; ++i) {
    try {
      const ModelFolder model = open_model(run_);
      std::vector<float> values(4096);
      model.read("w", {4096}, values);
      const std::string name = fs::path(model.path()).parent_path().filename().string();
      EXPECT_EQ(values, std::vector<float>(4096, static_cast<float>(step_of_checkpoint(name).value())));
      ++opened;
    } catch (const DataError& error) {
      EXPECT_TRUE(has(error.what(), "was deleted while it was read")) << error.what();
    }
  }
  stop = true;
  trainer.join();
  EXPECT_GT(opened, 0);
}

}  // namespace
}  // namespace depthroute
