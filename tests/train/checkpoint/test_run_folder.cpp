#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "data/files.h"
#include "tests/train/tiny_run.h"
#include "train/checkpoint/run_folder.h"
#include "train/metrics.h"

namespace depthroute {
namespace {

namespace fs = std::filesystem;

class RunFolder : public testing_support::TinyRun {};

TEST_F(RunFolder, OnlyFoldersNamedLikeCheckpointsAreListed) {
  EXPECT_TRUE(list_checkpoints(path("absent")).empty());
  const std::string folder = checkpoints_path(folder_);
  for (const char* name : {"step_00000020", "step_00000003", "step_123456789", "step_0000001x", "step_1",
                           "my_step_00000004", "step_00000005.tmp-17", "step_0000000000000001"})
    fs::create_directories(folder + "/" + name);
  std::ofstream(folder + "/step_00000006") << "a file";
  std::vector<int64_t> steps;
  for (const CheckpointFolder& found : list_checkpoints(folder_)) steps.push_back(found.step);
  EXPECT_EQ(steps, (std::vector<int64_t>{3, 20, 123456789}));
  EXPECT_EQ(checkpoint_name(20), "step_00000020");
}

TEST_F(RunFolder, LeftoversOfKillsGoAndNothingElseDoes) {
  const std::string folder = checkpoints_path(folder_);
  for (const char* name : {"step_00000005.tmp-17", "step_00000005.tmp-17-1", "step_00000005.tmp-17-replaced"})
    fs::create_directories(folder + "/" + name + "/model");
  std::ofstream(path("metrics.jsonl.tmp-4")) << "half";
  fs::create_symlink("gone", folder + "/latest.tmp-9");
  const std::vector<std::string> kept = {folder + "/step_00000005", folder + "/notes.tmp-17",
                                         folder + "/step_00000005.tmp-mine", folder + "/step_5.tmp-17",
                                         path("results.tmp-3")};
  for (const std::string& name : kept) fs::create_directories(name);
  clean_leftovers(folder_);
  for (const std::string& name : kept) EXPECT_TRUE(fs::exists(name)) << name;
  EXPECT_FALSE(fs::exists(path("metrics.jsonl.tmp-4")));
  EXPECT_EQ(std::distance(fs::directory_iterator(folder), fs::directory_iterator()), 4);
}

TEST_F(RunFolder, RewindKeepsWholeLinesUpToTheStep) {
  const std::string log = path("metrics.jsonl");
  rewind_metrics(log, 3);
  EXPECT_FALSE(fs::exists(log));
  const std::string kept = "{\"step\":2,\"loss\":1.5}\n{\"step\":3,\"val_loss\":1}\n";
  std::ofstream(log) << kept << "{\"step\":4,\"loss\":1}\nnot json\n{\"step\":3,\"lo";
  rewind_metrics(log, 3);
  EXPECT_EQ(read_file(log), kept);
  rewind_metrics(log, 0);
  EXPECT_EQ(read_file(log), "");
}

}  // namespace
}  // namespace depthroute
