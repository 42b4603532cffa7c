// Saving beside training: what is saved is of the moment of start(), and whatever goes wrong leaves the
// earlier checkpoints and nothing else.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>

#include "data/files.h"
#include "data/manifest.h"
#include "tests/train/checkpoint/checkpoint_fixture.h"

namespace depthroute {
namespace {

namespace fs = std::filesystem;
using testing_support::as_processes;
using testing_support::Holder;

/// Files of this process cannot grow beyond a size while this lives: a full disk, in the same manner.
class FileLimit {
 public:
  explicit FileLimit(int64_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit = {static_cast<rlim_t>(bytes), before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileLimit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  void (*handler_)(int);
};

class CheckpointSaving : public testing_support::CheckpointTest {
 protected:
  /// `processes` start saving, `meanwhile` happens on each of them, then they commit.
  void save_with(int processes, int64_t step, const testing_support::Numbers& numbers,
                 const std::function<void(World&, CheckpointSaver&, Holder&)>& meanwhile) {
    as_processes(processes, [&](World& world) {
      Holder holder(config_.model, layout_, world.rank(), world.size());
      holder.take(numbers);
      CheckpointSaver saver(world, config_, holder.tensors());
      saver.start(state_of(step));
      meanwhile(world, saver, holder);
      saver.commit();
    });
  }
  static void wait_until_written(CheckpointSaver& saver) {
    while (!saver.written()) std::this_thread::yield();
  }
};

TEST_F(CheckpointSaving, IsOfTheMomentOfStart) {
  for (const int processes : {1, 3}) {
    save_with(processes, 1, first_, [](World&, CheckpointSaver& saver, Holder& holder) {
      saver.wait_until_copied();
      holder.spoil();
    });
    EXPECT_EQ(verify_checkpoint(checkpoint(1)).tokens, 3);
    EXPECT_TRUE(load(2, checkpoint(1)) == first_);
    expect_only({1});
  }
}

TEST_F(CheckpointSaving, OneSaverSavesManyAndKeepsTheNewestBySteps) {
  config_.checkpoint.keep = 2;
  as_processes(3, [&](World& world) {
    Holder holder(config_.model, layout_, world.rank(), world.size());
    CheckpointSaver saver(world, config_, holder.tensors());
    saver.wait_until_copied();  // nothing to wait for
    for (int64_t step = 1; step <= 5; ++step) {
      holder.take(step % 2 ? first_ : second_);
      saver.start(state_of(step));
      saver.wait_until_copied();
      EXPECT_EQ(saver.commit(), checkpoint(step));
      if (!world.is_rank_0()) continue;
      // The clock jumps: the newest seems to be of 1990, the older ones of the future.
      for (const CheckpointFolder& folder : list_checkpoints(config_.output))
        fs::last_write_time(folder.path, fs::file_time_type::clock::now() +
                                             std::chrono::hours(folder.step == step ? -300000 : 300000));
    }
  });
  expect_only({4, 5});
  EXPECT_EQ(fs::read_symlink(checkpoints_path(config_.output) + "/latest"), "step_00000005");
  EXPECT_TRUE(load(1, checkpoint(4)) == second_);
  EXPECT_TRUE(load(1, checkpoint(5)) == first_);
}

TEST_F(CheckpointSaving, ADamagedLaterStepIsReplacedAndNeverCountsAsNewest) {
  config_.checkpoint.keep = 1;
  save(2, 1, first_);
  fs::create_directories(checkpoint(7) + "/model");
  save(2, 2, first_);
  EXPECT_EQ(steps(), (std::vector<int64_t>{2, 7}));
  save(3, 7, second_);
  expect_only({7});
  EXPECT_TRUE(load(2, checkpoint(7)) == second_);
}

TEST_F(CheckpointSaving, AFullDiskIsOneErrorThatNamesRankAndFile) {
  const std::string whole = save(3, 1, first_);
  ManifestFile largest, second;
  for (const ManifestFile& file : verify_manifest(whole).files) {
    if (file.size > largest.size)
      std::swap(largest, second), largest = file;
    else if (file.size > second.size)
      second = file;
  }
  ASSERT_GT(largest.size, second.size) << "otherwise more than one fails";
  const size_t part = largest.path.find("-0000");
  ASSERT_NE(part, std::string::npos) << largest.path;
  const std::string rank = "rank " + std::to_string(largest.path[part + 5] - '1') + ": ";
  std::string text;
  {
    const FileLimit limit(largest.size - 1);
    text = message_of<SystemError>([&] { save(3, 2, second_); });
  }
  EXPECT_TRUE(has(text, rank) && has(text, largest.path + ": cannot write: ") && has(text, "free space"))
      << text;
  expect_only({1});
  {
    const FileLimit limit(100);  // nobody gets anywhere
    text = message_of<SystemError>([&] { save(3, 2, second_); });
  }
  EXPECT_TRUE(has(text, "cannot write")) << text;
  expect_only({1});
  EXPECT_TRUE(load(3, checkpoint(1)) == first_);
  save(3, 2, second_);
  EXPECT_TRUE(load(3, checkpoint(2)) == second_);
}

TEST_F(CheckpointSaving, FoldersInTheWayAreErrorsEverywhere) {
  fs::remove(checkpoints_path(config_.output));
  write_raw(checkpoints_path(config_.output), "a file");
  std::string text = message_of<SystemError>([&] { save(3, 1, first_); });
  EXPECT_TRUE(has(text, checkpoints_path(config_.output))) << text;
  fs::remove(checkpoints_path(config_.output));
  save(3, 1, first_);  // makes the folder again
  const std::string latest = checkpoints_path(config_.output) + "/latest";
  fs::remove(latest);
  fs::create_directories(latest + "/mine");
  text = message_of<SystemError>([&] { save(3, 2, second_); });
  EXPECT_TRUE(has(text, latest)) << text;
  expect_only({1, 2});  // whole, though the link could not be set
  EXPECT_EQ(verify_checkpoint(checkpoint(2)).step, 2);
  fs::remove_all(latest);
  save(3, 3, first_);
  EXPECT_EQ(fs::read_symlink(latest), "step_00000003");
  fs::remove_all(config_.output);
  text = message_of<SystemError>([&] { save(3, 4, first_); });
  EXPECT_TRUE(has(text, "cannot be made")) << text;
}

TEST_F(CheckpointSaving, WhatSomebodyDeletesMeanwhileIsMissed) {
  save(3, 1, first_);
  // Of the checkpoint being written: one file, after the writer was done with it; then all of it.
  for (const bool all : {false, true}) {
    const std::string text = message_of<SystemError>([&] {
      save_with(3, 2, second_, [&](World& world, CheckpointSaver& saver, Holder&) {
        wait_until_written(saver);
        world.barrier();
        if (!world.is_rank_0()) return;
        for (const auto& entry : fs::directory_iterator(checkpoints_path(config_.output)))
          if (has(entry.path().string(), ".tmp-"))
            fs::remove_all(all ? entry.path() : entry.path() / "optimizer-00003-of-00003.safetensors");
      });
    });
    EXPECT_TRUE(has(text, all ? "cannot be found again" : "optimizer-00003")) << text;
    expect_only({1});
  }
  // Earlier checkpoints and the link to them: not needed to go on.
  save_with(3, 2, second_, [&](World& world, CheckpointSaver&, Holder&) {
    if (!world.is_rank_0()) return;
    fs::remove(checkpoints_path(config_.output) + "/latest");
    fs::remove_all(checkpoint(1));
  });
  expect_only({2});
}

TEST_F(CheckpointSaving, GivingUpLeavesNothing) {
  save(3, 1, first_);
  for (const int processes : {1, 3})
    for (const int moment : {0, 1, 2}) {
      as_processes(processes, [&](World& world) {
        Holder holder(config_.model, layout_, world.rank(), world.size());
        holder.take(second_);
        CheckpointSaver saver(world, config_, holder.tensors());
        saver.start(state_of(2));
        if (moment > 0) saver.wait_until_copied();
        if (moment > 1) wait_until_written(saver);
      });
      expect_only({1});
    }
  EXPECT_TRUE(load(3, checkpoint(1)) == first_);
}

// SIGXFSZ, not ignored, kills at a chosen byte of a file.
TEST_F(CheckpointSaving, AKilledJobLeavesTheEarlierOnesAndLeftoversThatGo) {
  const std::string whole = save(3, 1, first_);
  int64_t largest = 0;
  for (const ManifestFile& file : verify_manifest(whole).files) largest = std::max(largest, file.size);
  int leftovers = 0;
  for (int kill = 0; kill < 12; ++kill) {
    const int64_t limit = 1 + largest * kill / 12;
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      const rlimit no_core = {0, 0}, file_limit = {static_cast<rlim_t>(limit), RLIM_INFINITY};
      ::setrlimit(RLIMIT_CORE, &no_core);
      ::setrlimit(RLIMIT_FSIZE, &file_limit);
      try {
        save(3, 2, second_);
      } catch (...) {
      }
      ::_exit(0);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGXFSZ) << limit;
    EXPECT_EQ(steps(), std::vector<int64_t>{1});
    leftovers += std::distance(fs::directory_iterator(checkpoints_path(config_.output)), {}) - 2;
    clean_leftovers(config_.output);
    expect_only({1});
  }
  EXPECT_GE(leftovers, 12);
  EXPECT_TRUE(load(2, checkpoint(1)) == first_);
}

}  // namespace
}  // namespace depthroute
