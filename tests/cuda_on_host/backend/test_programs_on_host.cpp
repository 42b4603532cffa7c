// The programs with `device: cuda` on the emulated device:
// a run is trained in bf16, stopped, resumed and evaluated.
#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <fstream>

#include "tests/train/tiny_run.h"
#include "train/checkpoint/run_folder.h"

namespace depthroute {
namespace {

using testing_support::is_one_line;
using testing_support::Program;
using testing_support::Result;
using testing_support::run_program_to_end;

class ProgramsOnHost : public testing_support::TinyRun {
 protected:
  static inline const std::vector<std::string> kBf16 = {"--set", "precision=bf16", "--set",
                                                        "checkpoint.every=2"};
};

TEST_F(ProgramsOnHost, AStoppedRunGoesOnBitForBitAndItsCheckpointIsEvaluated) {
  constexpr int64_t kSteps = 6;
  const std::string straight = write_config("straight", kSteps), broken = write_config("broken", kSteps);
  const Result undisturbed = train(straight, kBf16);
  ASSERT_EQ(undisturbed.status, 0) << undisturbed.err;
  EXPECT_NE(undisturbed.out.find("cuda: emulated"), std::string::npos) << undisturbed.out;

  std::vector<std::string> arguments = {broken};
  arguments.insert(arguments.end(), kBf16.begin(), kBf16.end());
  std::filesystem::create_directories(checkpoints_path(path("broken")));
  {
    Program program("depthroute-train", arguments, folder_);
    program.watch(checkpoints_path(path("broken")));
    ASSERT_TRUE(program.wait_for_events(1));
    program.send(SIGTERM);
    const Result stopped = program.wait();
    ASSERT_EQ(stopped.status, 3) << stopped.err;
  }
  const Result resumed = train(broken, kBf16);
  ASSERT_EQ(resumed.status, 0) << resumed.err;
  expect_same_run("straight", "broken", kSteps);

  const std::string config = path("eval.yaml");
  std::ofstream(config) << "output: " << path("results.h5") << "\nmodel: {from: " << path("straight")
                        << "}\ndata: {shards: [" << path("val.bin") << "], seq_len: 9, sequences: 4}\n"
                        << "device: cuda\nstatistics: {bootstrap: 100}\ngrids:\n  - {families: [embedding], "
                           "sublayers: [mlp], bands: [early, late], interventions: [mask]}\n";
  const Result evaluated = run_program_to_end("depthroute-eval", {config}, folder_);
  EXPECT_EQ(evaluated.status, 0) << evaluated.out << evaluated.err;
  EXPECT_NE(evaluated.out.find("exactly 0"), std::string::npos) << evaluated.out;
  EXPECT_TRUE(exists(path("results.h5")));
}

TEST_F(ProgramsOnHost, WithoutAGpuOrWithAShapeItCannotComputeNothingIsStarted) {
  const std::string config = write_config("none", 2);
  setenv("CUDA_ON_HOST_DEVICES", "0", 1);
  const Result none = train(config);
  unsetenv("CUDA_ON_HOST_DEVICES");
  EXPECT_EQ(none.status, 2);
  EXPECT_TRUE(is_one_line(none.err));
  EXPECT_NE(none.err.find("device: cuda is not available"), std::string::npos) << none.err;

  const Result odd = train(write_config("odd", 2), {"--set", "model.hidden_size=36"});
  EXPECT_EQ(odd.status, 2);
  EXPECT_TRUE(is_one_line(odd.err));
  EXPECT_NE(odd.err.find("model.hidden_size = 36 is not divisible by 8"), std::string::npos) << odd.err;
  EXPECT_FALSE(exists(path("none"))) << "a refused run leaves nothing behind";
}

}  // namespace
}  // namespace depthroute
