// depthroute-train in several processes, from the outside: the same bits on any number of them, however often
// they are killed, and an end with a reason when one of them is gone.
#include <csignal>
#include <filesystem>
#include <fstream>
#include <random>

#include "configs/base/error.h"
#include "data/model/safetensors.h"
#include "data/tokens/token_stream.h"
#include "tests/distributed/job_run.h"
#include "tests/support/paths.h"
#include "train/checkpoint/format.h"
#include "train/checkpoint/run_folder.h"

namespace depthroute {
namespace {

namespace fs = std::filesystem;
using testing_support::errors_of;
using testing_support::MpiJob;
using testing_support::Result;
using testing_support::run_program_to_end;

/// Overwrites one value of a tensor: element `column` of row `row` (0 for a vector).
void overwrite(const std::string& file, const std::string& tensor, int64_t row, int64_t column, float value) {
  int64_t at = 0;
  {
    const SafetensorsFile tensors(file);
    const TensorEntry* entry = tensors.find(tensor);
    ASSERT_NE(entry, nullptr);
    at = entry->begin + (row * entry->shape.back() + column) * 4;
  }
  std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
  uint64_t header = 0;
  stream.read(reinterpret_cast<char*>(&header), sizeof(header));
  stream.seekp(static_cast<std::streamoff>(8 + header) + at);
  stream.write(reinterpret_cast<const char*>(&value), sizeof(value));
  ASSERT_TRUE(stream.good());
}

class Jobs : public testing_support::JobRun {
 protected:
  void SetUp() override {
    DR_SKIP_WITHOUT_MPI();
    JobRun::SetUp();
  }
  void TearDown() override {
    if (!folder_.empty()) JobRun::TearDown();
  }
  MpiJob start(int processes, const std::string& output, int64_t steps,
               const std::vector<std::string>& settings = {}) {
    return MpiJob(processes, "depthroute-train", arguments(output, steps, settings), folder_);
  }
  /// Waits until something half-written is there, so that what follows hits a checkpoint on its way.
  void wait_for_leftover(const std::string& output, MpiJob& job) {
    std::error_code error;
    while (!job.ranks().empty()) {
      for (const fs::directory_entry& entry : fs::directory_iterator(checkpoints_path(path(output)), error))
        if (entry.path().filename().string().find(".tmp-") != std::string::npos) return;
      if (kill(job.ranks().front(), 0) != 0) return;
    }
  }
};

TEST_F(Jobs, TheSameBitsOnOneTwoFourAndEightProcesses) {
  const Result one = job(1, "one", 22);
  ASSERT_EQ(one.status, 0) << one.err;
  for (const int processes : {2, 4, 8}) {
    const std::string name = "n" + std::to_string(processes);
    const Result several = job(processes, name, 22);
    ASSERT_EQ(several.status, 0) << several.err;
    EXPECT_NE(several.out.find(std::to_string(processes) + " processes"), std::string::npos) << several.out;
    expect_same_result("one", name, 22);
  }
  // Started by hand, with as many threads as there are cores.
  ASSERT_EQ(run_program_to_end("depthroute-train", arguments("hand", 22), folder_).status, 0);
  expect_same_result("one", "hand", 22);
}

TEST_F(Jobs, AMixOfSourcesGoesOnWithAnotherNumberOfProcesses) {
  const std::vector<std::string> mix = {"data.train=null", "data.mix=[{shards: [" + path("a.bin") +
                                                               "], weight: 0.35}, "
                                                               "{shards: [" +
                                                               path("c.bin") + "], weight: 0.65}]"};
  ASSERT_EQ(job(1, "straight", 22, mix).status, 0);
  MpiJob running = start(4, "broken", 22, mix);
  ASSERT_TRUE(running.wait_for_output("step 9/")) << running.wait().err;
  running.send(2, SIGKILL);
  EXPECT_NE(running.wait().status, 0);
  const Result last = job(2, "broken", 22, mix);
  ASSERT_EQ(last.status, 0) << last.err;
  expect_same_result("straight", "broken", 22);
}

#ifdef HAVE_TRAIN_ON_HOST
// The same code with tensors on a device, executed on the CPU: exchanged through the host, as processes that
// share a GPU do, and by NCCL's calls; streams run in several orders (CUDA_ON_HOST_STREAMS).
TEST_F(Jobs, TheSameBitsOnADeviceByWayOfTheHostAndOfNccl) {
#ifdef __SANITIZE_ADDRESS__
  const std::vector<std::string> precisions = {"bf16"};  // ten times slower
  const std::vector<int> sizes = {2};
#else
  const std::vector<std::string> precisions = {"fp32", "bf16"};
  const std::vector<int> sizes = {2, 4};
#endif
  for (const std::string& precision : precisions) {
    const auto train_on_device = [&](int processes, const std::string& backend,
                                     const std::string& order = "lazy") {
      const std::vector<std::string> settings = {"device=cuda",          "precision=" + precision,
                                                 "train.global_batch=8", "model.vocab_size=256",
                                                 "validate.every=2",     "checkpoint.every=2",
                                                 "data.seq_len=16",      "distributed.backend=" + backend};
      const std::string name = precision + backend + std::to_string(processes) + order;
      const Result result = testing_support::run_under_mpi(
          processes, "on_host/depthroute-train", arguments(name, 4, settings), folder_,
          {"CUDA_ON_HOST_DEVICES=4", "CUDA_ON_HOST_STREAMS=" + order,
           "DEPTHROUTE_NCCL_LIBRARY=" + test_paths::bin() + "/libfake_nccl.so"});
      EXPECT_EQ(result.status, 0) << result.err;
      if (processes > 1) {
        EXPECT_NE(result.out.find(backend == "nccl" ? "NCCL" : "by way of host memory"), std::string::npos)
            << result.out;
      }
      return name;
    };
    const std::string one = train_on_device(1, "mpi");
    for (const int processes : sizes) {
      expect_same_result(one, train_on_device(processes, "mpi"), 4);
#ifdef HAVE_FAKE_NCCL
      for (const char* order : {"lazy", "opposite", "5"})
        expect_same_result(one, train_on_device(processes, "nccl", order), 4);
#endif
    }
  }
}
#endif

#if defined(HAVE_TRAIN_ON_HOST) && defined(HAVE_FAKE_NCCL)
// The emulated device shows it if the training stream does not wait for what NCCL brings: sums of gradients,
// and parameters that other ranks have updated.
TEST_F(Jobs, AForgottenWaitBetweenStreamsChangesTheNumbers) {
  const auto losses = [&](const std::string& name, const std::vector<std::string>& environment) {
    std::vector<std::string> all = {"CUDA_ON_HOST_DEVICES=2",
                                    "DEPTHROUTE_NCCL_LIBRARY=" + test_paths::bin() + "/libfake_nccl.so"};
    all.insert(all.end(), environment.begin(), environment.end());
    const Result result = testing_support::run_under_mpi(
        2, "on_host/depthroute-train",
        arguments(name, 3,
                  {"device=cuda", "train.global_batch=8", "model.vocab_size=256", "data.seq_len=16",
                   "distributed.backend=nccl", "distributed.timeout=60"}),
        folder_, all);
    std::vector<double> found;
    if (result.status != 0) return found;  // numbers so wrong that the run ends
    for (const nlohmann::json& line : metrics(name))
      if (line.contains("loss") && line.at("loss").is_number()) found.push_back(line.at("loss"));
    return found;
  };
  const std::vector<double> right = losses("right", {});
  ASSERT_EQ(right.size(), 3U);
  EXPECT_NE(losses("wrong", {"CUDA_ON_HOST_FORGET_WAITS=ordinary"}), right);
}
#endif

TEST_F(Jobs, WithoutDeterminismTheSameUpToRounding) {
  const std::vector<std::string> settings = {"deterministic=false", "train.global_batch=14",
                                             "train.micro_batch=2"};
  ASSERT_EQ(job(1, "one", 12, settings).status, 0);
  for (const int processes : {2, 3, 7}) {  // 7 micro-batches: dealt unevenly to 2 and 3
    const std::string name = "n" + std::to_string(processes);
    const Result several = job(processes, name, 12, settings);
    ASSERT_EQ(several.status, 0) << several.err;
    const auto a = metrics("one"), b = metrics(name);
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i)
      for (const char* key : {"loss", "grad_norm", "val_loss"})
        if (a[i].contains(key)) {
          EXPECT_NEAR(a[i].at(key).get<double>(), b[i].at(key).get<double>(),
                      2e-4 * a[i].at(key).get<double>())
              << key << " in line " << i;
        }
  }
}

TEST_F(Jobs, GoOnWithOneFourTwoAndOneProcessesAfterKills) {
  constexpr int64_t kSteps = 60;
  ASSERT_EQ(job(1, "straight", kSteps).status, 0);
  const struct {
    int processes, rank;
    const char* until;
  } parts[] = {{1, 0, "step 13/"}, {4, 2, "step 27/"}, {2, 1, "step 44/"}};
  for (const auto& [processes, rank, until] : parts) {
    MpiJob running = start(processes, "broken", kSteps);
    ASSERT_TRUE(running.wait_for_output(until)) << running.wait().err;
    running.send(rank, SIGKILL);
    EXPECT_NE(running.wait().status, 0);
  }
  const Result last = job(1, "broken", kSteps);
  ASSERT_EQ(last.status, 0) << last.err;
  EXPECT_NE(last.out.find("resuming after step"), std::string::npos) << last.out;
  expect_same_result("straight", "broken", kSteps);
}

TEST_F(Jobs, ASignalToAnyProcessStopsAllAtTheSameStepWithACheckpoint) {
  constexpr int64_t kSteps = 400;
  const struct {
    int rank, signal;
    const char* name;
  } cases[] = {{2, SIGTERM, "SIGTERM"}, {0, SIGUSR1, "SIGUSR1"}};
  for (const auto& [rank, signal, name] : cases) {
    MpiJob running = start(3, name, kSteps, {"deterministic=false", "checkpoint.every=0"});
    ASSERT_TRUE(running.wait_for_output("step 4/")) << running.wait().err;
    running.send(rank, signal);
    const Result result = running.wait();
    EXPECT_EQ(result.status, kExitInterrupted) << result.err;
    EXPECT_NE(result.out.find(std::string("stopped by ") + name), std::string::npos) << result.out;
    const auto checkpoints = list_checkpoints(path(name));
    ASSERT_EQ(checkpoints.size(), 1U);
    EXPECT_EQ(verify_checkpoint(checkpoints[0].path).step, metrics(name).back().at("step"));
  }
}

TEST_F(Jobs, ADeadProcessEndsTheJobAndSpoilsNothing) {
  MpiJob running = start(4, "run", 100'000, {"checkpoint.every=3", "checkpoint.keep=2"});
  ASSERT_TRUE(running.wait_for_output("step 8/")) << running.wait().err;
  const std::vector<pid_t> ranks = running.ranks();
  running.send(3, SIGKILL);
  EXPECT_NE(running.wait(60).status, 0);
  for (const pid_t rank : ranks) EXPECT_TRUE(testing_support::ends(rank));
  for (const CheckpointFolder& folder : list_checkpoints(path("run")))
    EXPECT_NO_THROW(verify_checkpoint(folder.path));
}

TEST_F(Jobs, AProcessThatHangsEndsTheJobWithAReason) {
  MpiJob running = start(3, "run", 100'000, {"deterministic=false", "distributed.timeout=6"});
  ASSERT_TRUE(running.wait_for_output("step 5/")) << running.wait().err;
  running.send(1, SIGSTOP);
  const Result result = running.wait(60);
  EXPECT_EQ(result.status, kExitFailure) << result.err;
  EXPECT_NE(result.err.find("waited 6 s"), std::string::npos) << result.err;
}

// One sequence holds a token whose embedding is NaN: one process alone computes NaN. All skip the step.
// Weights are finite, or they would be refused. But the logit of token 8000 is infinite: where it is minus
// infinity, only the sequence that has this token as a target has no finite loss. Which sign gives that
// depends on the initial weights.
TEST_F(Jobs, AnInfiniteLossOnOneProcessIsSkippedByAllAndCounted) {
  const std::vector<std::string> settings = {"model.tie_embeddings=false", "data.order=sequential",
                                             "train.global_batch=8",       "train.max_bad_steps=100",
                                             "optimizer.lr=1e-6",          "optimizer.lr_min=1e-7"};
  ASSERT_EQ(job(1, "source", 1, settings).status, 0);
  Result result;
  const std::string model = path("odd");  // a checkpoint's own model is verified against its manifest
  std::filesystem::copy(checkpoint("source", 1) + "/model", model, std::filesystem::copy_options::recursive);
  const std::string weights = model + "/model.safetensors";
  overwrite(weights, "model.norm.weight", 0, 0, 1e3F);
  ShardWriter writer(path("rare.bin"), 8192);
  std::vector<int32_t> tokens(32 * 16 + 1, 5);
  tokens[32 * 3 + 7] = 8000;  // the fourth of sixteen sequences
  writer.append(tokens);
  writer.close();
  std::vector<std::string> poisoned = settings;
  for (const std::string& setting :
       {"model.from=" + model, "data.train=[" + path("rare.bin") + "]", std::string("data.val=[]")})
    poisoned.push_back(setting);
  for (const float sign : {1.0F, -1.0F}) {
    overwrite(weights, "lm_head.weight", 8000, 0, sign * 3e38F);
    const std::string name = sign > 0 ? "plus" : "minus";
    ASSERT_EQ(job(1, name, 7, poisoned).status, 0);
    if (!metrics(name).at(1).at("loss").is_null()) break;
  }
  for (const int processes : {1, 4}) {
    const std::string name = "n" + std::to_string(processes);
    result = job(processes, name, 7, poisoned);
    ASSERT_EQ(result.status, 0) << result.err;
    int64_t skipped = 0;
    for (const nlohmann::json& line : metrics(name)) {
      const bool bad = line.at("step").get<int64_t>() % 2 == 1;  // every other step meets that sequence
      skipped += bad;
      EXPECT_EQ(line.at("loss").is_null(), bad) << line;
      EXPECT_EQ(line.at("skipped"), skipped) << line;
    }
    EXPECT_EQ(skipped, 4);
  }
  // One after another.
  poisoned.push_back("train.global_batch=16");
  poisoned.push_back("train.max_bad_steps=3");
  result = job(2, "given_up", 10, poisoned);
  EXPECT_EQ(result.status, kExitFailure);
  EXPECT_EQ(errors_of(result).size(), 1U) << result.err;
  EXPECT_NE(result.err.find("3 steps in a row were not finite"), std::string::npos) << result.err;
}

TEST_F(Jobs, TwoJobsCannotWriteOneFolder) {
  MpiJob running = start(2, "run", 100'000);
  ASSERT_TRUE(running.wait_for_output("step 6/")) << running.wait().err;
  const std::string other = ::testing::TempDir() + "other_job_" + std::to_string(getpid());
  fs::create_directories(other);
  const Result second =
      testing_support::run_under_mpi(2, "depthroute-train", arguments("run", 100'000), other);
  EXPECT_EQ(second.status, kExitBadInput) << second.err;
  ASSERT_EQ(errors_of(second).size(), 1U) << second.err;
  EXPECT_NE(errors_of(second)[0].find("another run is writing"), std::string::npos) << second.err;
  fs::remove_all(other);
  running.send(0, SIGTERM);
  EXPECT_EQ(running.wait().status, kExitInterrupted);
}

TEST_F(Jobs, BadInputIsOneLineWhateverTheNumberOfProcesses) {
  const auto refuse = [&](int processes, const std::vector<std::string>& settings, const char* reason) {
    const Result result = job(processes, "refused", 10, settings);
    EXPECT_EQ(result.status, kExitBadInput) << result.err;
    const std::vector<std::string> errors = errors_of(result);
    ASSERT_EQ(errors.size(), 1U) << result.err;
    EXPECT_NE(errors[0].find(reason), std::string::npos) << errors[0];
    EXPECT_FALSE(exists(path("refused")));
  };
  refuse(3, {}, "distributed.shards = 8 slices, which 3 processes cannot share");
  refuse(5, {"deterministic=false", "train.micro_batch=4"}, "too few for 5 processes");
  refuse(2, {"data.train=[" + path("missing.bin") + "]"}, "missing.bin");
  refuse(2, {"optimizer.lr=fast"}, "optimizer.lr");
}

// Kills over ranks, numbers of processes and moments, half of them into checkpoints being written.
// DEPTHROUTE_KILLS=200 is the full number; every day a few.
TEST_F(Jobs, NoKillLosesOrChangesAnything) {
  const char* asked = std::getenv("DEPTHROUTE_KILLS");
  const int wanted = asked ? std::atoi(asked) : 8;
  const int64_t steps = 40 + 12 * wanted;
  const std::vector<std::string> settings = {"train.global_batch=8", "checkpoint.every=4",
                                             "checkpoint.keep=2", "validate.every=50"};
  ASSERT_EQ(job(1, "straight", steps, settings).status, 0);
  std::mt19937 random(200);
  int kills = 0;
  int64_t reached = 0;
  Result result;
  for (int attempt = 0; kills < wanted && attempt < 3 * wanted; ++attempt) {
    const int processes = 1 << random() % 4;
    MpiJob running = start(processes, "broken", steps, settings);
    const int64_t until = std::min(steps - 1, reached + 1 + static_cast<int64_t>(random() % 14));
    running.wait_for_output("step " + std::to_string(until) + "/");
    if (random() % 2) wait_for_leftover("broken", running);
    running.send(static_cast<int>(random() % static_cast<unsigned>(processes)), SIGKILL);
    result = running.wait();
    if (result.status == 0) break;
    ++kills;
    EXPECT_EQ(result.err.find("damaged"), std::string::npos) << result.err;
    for (const CheckpointFolder& folder : list_checkpoints(path("broken"))) {
      ASSERT_NO_THROW(verify_checkpoint(folder.path));
      reached = std::max(reached, folder.step);
    }
  }
  EXPECT_GE(kills, wanted / 2) << "the jobs ended before they could be killed";
  std::printf("%d jobs killed, %ld steps\n", kills, static_cast<long>(steps));
  result = job(2, "broken", steps, settings);
  ASSERT_EQ(result.status, 0) << result.err;
  expect_same_result("straight", "broken", steps);
}

}  // namespace
}  // namespace depthroute
