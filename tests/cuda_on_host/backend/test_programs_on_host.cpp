// The programs with `device: cuda` on the emulated device:
// a run is trained in bf16, stopped, resumed and evaluated.
#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>
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

/// Sets an environment variable of the programs that the test starts.
class Setting {
 public:
  Setting(const char* name, const std::string& value) : name_(name) { setenv(name, value.c_str(), 1); }
  ~Setting() { unsetenv(name_); }
  Setting(const Setting&) = delete;
  Setting& operator=(const Setting&) = delete;

 private:
  const char* name_;
};

TEST_F(ProgramsOnHost, TooLittleMemoryIsSaidAtTheStartWithTheNumbers) {
  const std::string config = write_config("small", 2);
  struct Case {
    const char* bytes;
    std::vector<const char*> words;
  };
  const std::vector<Case> cases = {
      {"100000", {"cannot allocate", "GiB are free", "micro_batch"}},
      {"150000000", {"of the GPU's 0.14 GiB only 0.1", "may take 0.25", "micro_batch"}}};
  for (const Case& one : cases) {
    const Setting memory("CUDA_ON_HOST_MEMORY", one.bytes);
    const Result refused = train(config, {"--set", "precision=bf16"});
    EXPECT_EQ(refused.status, 1) << refused.out;
    EXPECT_TRUE(is_one_line(refused.err)) << refused.err;
    for (const char* word : one.words) EXPECT_NE(refused.err.find(word), std::string::npos) << refused.err;
    EXPECT_FALSE(exists(path("small"))) << "a refused run leaves nothing behind";
  }
}

// validate.sequences is more than there are: the last batch has one sequence, as few as its scratch is for.
TEST_F(ProgramsOnHost, ALibrarysAttentionIsUsedAndItsAbsenceIsSaid) {
  const std::vector<std::string> odd = {"--set", "precision=bf16",  "--set", "validate.sequences=6",
                                        "--set", "validate.every=1"};
  const Result own = train(write_config("own", 2), odd);
  ASSERT_EQ(own.status, 0) << own.err;
  EXPECT_NE(own.out.find("warning: attention runs on this program's own kernels"), std::string::npos)
      << own.out;
  EXPECT_NE(own.out.find("there is no cuDNN"), std::string::npos) << own.out;

  const Setting cudnn("CUDA_ON_HOST_CUDNN", "91900");
  const Result library = train(write_config("library", 2), odd);
  ASSERT_EQ(library.status, 0) << library.err;
  EXPECT_NE(library.out.find("emulated cuDNN 9.19.0"), std::string::npos) << library.out;
  EXPECT_EQ(library.out.find("warning"), std::string::npos) << library.out;
  expect_same_run("own", "library", 2);

  const Result fp32 = train(write_config("fp32", 1), {"--set", "precision=fp32"});
  EXPECT_EQ(fp32.out.find("warning"), std::string::npos) << fp32.out;
}

TEST_F(ProgramsOnHost, AGraphIsRefusedWhereTheLibraryCopiesFromTheHost) {
  const std::string config = write_config("graph", 3);
  std::vector<std::string> graph = {"--set", "precision=bf16", "--set", "train.cuda_graph=true"};
  {
    const Setting old("CUDA_ON_HOST_CUDNN", "91500");
    const Result refused = train(config, graph);
    EXPECT_EQ(refused.status, 2);
    EXPECT_TRUE(is_one_line(refused.err)) << refused.err;
    for (const char* word : {"train.cuda_graph", "cuDNN 9.15.0", "32 tokens", "128", "9.16"})
      EXPECT_NE(refused.err.find(word), std::string::npos) << refused.err;
    EXPECT_FALSE(exists(path("graph")));
    const Result without = train(write_config("plain", 3), {"--set", "precision=bf16"});
    EXPECT_EQ(without.status, 0) << without.err;
  }
  const Setting later("CUDA_ON_HOST_CUDNN", "91600");
  const Result recorded = train(config, graph);
  EXPECT_EQ(recorded.status, 0) << recorded.err;
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
