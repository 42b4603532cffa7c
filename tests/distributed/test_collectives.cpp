// Collectives and worlds in several processes: `collectives_worker` under mpirun, on the CPU and, where
// CUDA's headers are, on the emulated device by way of the host and through a NCCL of ours.
#include <gtest/gtest.h>

#include <csignal>

#include "configs/base/error.h"
#include "tests/distributed/launch.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"

namespace depthroute {
namespace {

using testing_support::errors_of;
using testing_support::MpiJob;
using testing_support::Result;
using testing_support::run_under_mpi;
using Words = std::vector<std::string>;

/// How tensors are exchanged.
struct Path {
  std::string name, program;
  Words arguments, environment;
  std::string described;
};

const std::vector<Path>& paths() {
  static const std::vector<Path> kPaths = [] {
    std::vector<Path> found = {{"Host", "collectives_worker", {}, {}, "MPI"}};
#ifdef HAVE_WORKER_ON_HOST
    const std::string on_host = "collectives_worker_on_host";
    found.push_back({"StagedOnOneGpu", on_host, {"--device", "cuda"}, {}, "MPI by way of host memory"});
#ifdef HAVE_FAKE_NCCL
    const std::string library = "DEPTHROUTE_NCCL_LIBRARY=" + test_paths::bin() + "/libfake_nccl.so";
    const Words devices = {library, "CUDA_ON_HOST_DEVICES=8"};
    found.push_back({"StagedByChoice",
                     on_host,
                     {"--device", "cuda", "--backend", "mpi"},
                     devices,
                     "MPI by way of host memory"});
    found.push_back({"Nccl", on_host, {"--device", "cuda", "--backend", "nccl"}, devices, "NCCL"});
    found.push_back({"NcclInOrder",
                     on_host,
                     {"--device", "cuda", "--deterministic", "true"},
                     devices,
                     "sums in a fixed order"});
#endif
#endif
    return found;
  }();
  return kPaths;
}

class OnPath : public testing::TestWithParam<size_t> {
 protected:
  void SetUp() override { DR_SKIP_WITHOUT_MPI(); }
  Result run(int processes, Words arguments, Words environment = {}) {
    const Words& more = path().arguments;
    arguments.insert(arguments.end(), more.begin(), more.end());
    environment.insert(environment.end(), path().environment.begin(), path().environment.end());
    return run_under_mpi(processes, path().program, arguments, folder_.path(), environment);
  }
  const Path& path() const { return paths()[GetParam()]; }
  TempFolder folder_;
};

INSTANTIATE_TEST_SUITE_P(, OnPath, testing::Range(size_t{0}, paths().size()),
                         [](const auto& suite) { return paths()[suite.param].name; });

TEST_P(OnPath, EveryCollectiveIsWhatPlainLoopsSay) {
  for (const int processes : {1, 2, 3, 4, 5, 8}) {
    const Result result = run(processes, {"collectives"});
    EXPECT_EQ(result.status, 0) << processes << result.err;
    EXPECT_TRUE(has(result.out, "ok " + std::to_string(processes))) << result.out;
    EXPECT_TRUE(processes == 1 || has(result.out, path().described)) << result.out;
  }
}

TEST_P(OnPath, ManyCallsMayBeInFlight) {
  for (const int processes : {1, 2, 3}) {
    const Result result = run(processes, {"in_flight"});
    EXPECT_EQ(result.status, 0) << processes << result.err;
  }
}

TEST_P(OnPath, TheTreeHasTheSameBitsForAnyPowerOfTwo) {
  if (path().name == "Nccl") GTEST_SKIP() << "promises no order";
  std::string first;
  for (const int processes : {1, 2, 4, 8}) {
    const Result result = run(processes, {"tree"});
    ASSERT_EQ(result.status, 0) << result.err;
    const std::string hash = result.out.substr(result.out.find("hash"), 21);
    if (first.empty()) first = hash;
    EXPECT_EQ(hash, first) << processes;
  }
}

TEST_P(OnPath, AProcessThatNeverComesEndsTheJobWithWhatWasWaitedFor) {
  if (path().name.rfind("Nccl", 0) == 0) GTEST_SKIP() << "the fake NCCL waits for ever";
  for (const char* what : {"reduce_scatter", "all_gather", "all_reduce", "broadcast", "barrier"}) {
    const Result result = run(3, {"missing", "--what", what, "--timeout", "1"});
    EXPECT_EQ(result.status, 1) << what << result.err;
    ASSERT_FALSE(errors_of(result).empty()) << result.err;
    EXPECT_TRUE(has(errors_of(result)[0], std::string("waited 1 s for the other processes in ") + what))
        << result.err;
  }
}

TEST_P(OnPath, AProcessThatFailsAloneEndsTheJobWithItsOwnWords) {
  for (const char* what : {"idle", "pending"}) {
    if (path().name.rfind("Nccl", 0) == 0 && std::string(what) == "pending") continue;  // the fake waits
    const Result result = run(3, {"lonely", "--what", what});
    EXPECT_EQ(result.status, 1) << what << result.err;
    EXPECT_EQ(errors_of(result), Words{"rank 2: something broke"}) << what;
  }
}

class Processes : public testing::Test {
 protected:
  void SetUp() override { DR_SKIP_WITHOUT_MPI(); }
  Result run(int processes, const Words& arguments, const Words& environment = {}) {
    return run_under_mpi(processes, "collectives_worker", arguments, folder_.path(), environment);
  }
  TempFolder folder_;
};

TEST_F(Processes, TellEachOtherStringsOfAnyLength) {
  for (const int processes : {1, 2, 5}) {
    const Result whole = run(processes, {"control"});
    EXPECT_EQ(whole.status, 0) << whole.err;
    const Result in_parts = run(processes, {"control", "--max-message", "1001"});
    EXPECT_EQ(in_parts.status, 0) << in_parts.err;
  }
}

TEST_F(Processes, MessagesLargerThanMpiCountsGoInParts) {
  const Result result = run(3, {"collectives", "--max-message", "1001"});
  EXPECT_EQ(result.status, 0) << result.err;
}

TEST_F(Processes, FailTogetherWithOneLine) {
  struct Case {
    std::string who;
    int status;
    Words said;
  };
  for (const auto& [who, status, said] : std::vector<Case>{
           {"...", 0, {}},
           {"iii", 2, {"the same file is missing"}},
           {"sss", 1, {"the same file is missing"}},
           {".i.", 2, {"rank 1: the same file is missing"}},
           {"..s", 1, {"rank 2: the same file is missing"}},
           {"III", 2, {"rank 0: own trouble 0"}},
           {".SI", 1, {"rank 1: own trouble 1"}},
           {".IS", 2, {"rank 1: own trouble 1"}},
       }) {
    const Result result = run(3, {"together", "--what", who});
    EXPECT_EQ(result.status, status) << who;
    EXPECT_EQ(errors_of(result), said) << who << result.err;
  }
}

TEST_F(Processes, LearnOfAFailureAtTheirNextCall) {
  for (const char* call : {"barrier", "broadcast", "gather", "together", "require_equal", "end"}) {
    const Result one = run(3, {"fail_before", "--what", std::string("alone/") + call});
    EXPECT_EQ(one.status, 2) << call << one.err;
    EXPECT_EQ(errors_of(one), Words{"rank 2: a file is broken"}) << call << one.err;
    const Result all = run(3, {"fail_before", "--what", std::string("all/") + call});
    EXPECT_EQ(all.status, 2) << call << all.err;
    EXPECT_EQ(errors_of(all), Words{"a file is broken"}) << call << all.err;
  }
}

TEST_F(Processes, StopTogetherWithOneLineThatIsNoError) {
  for (const auto& [who, said] : std::vector<std::pair<std::string, std::string>>{
           {"ppp", ": stopped by a test\n"}, {".p.", ": rank 1: stopped by a test\n"}}) {
    const Result result = run(3, {"together", "--what", who});
    EXPECT_EQ(result.status, kExitInterrupted) << who;
    EXPECT_EQ(errors_of(result), Words{}) << result.err;
    const size_t at = result.err.find(said);
    ASSERT_NE(at, std::string::npos) << result.err;
    EXPECT_EQ(result.err.find(said, at + 1), std::string::npos) << result.err;
  }
}

TEST_F(Processes, MustSeeTheSame) {
  EXPECT_EQ(run(3, {"equal", "--what", "aaa"}).status, 0);
  const Result result = run(3, {"equal", "--what", "aab"});
  EXPECT_EQ(result.status, 2);
  ASSERT_EQ(errors_of(result).size(), 1u) << result.err;
  EXPECT_TRUE(has(errors_of(result)[0],
                  "shard a.bin: rank 0 has a tokens, rank 2 has b tokens: all ranks must see the same"));
}

TEST_F(Processes, WaitForOneThatNeverComesForALimitedTime) {
  for (const char* what : {"gather", "broadcast", "barrier"}) {
    const Result result = run(3, {"missing", "--what", std::string("world.") + what, "--timeout", "1"});
    EXPECT_EQ(result.status, 1) << what << result.err;
    EXPECT_TRUE(has(result.err, "waited 1 s for the other processes in ")) << result.err;
  }
}

TEST_F(Processes, TheStatusIsThatOfTheOneThatFailed) {
  const Result result = run(3, {"lonely", "--what", "input"});
  EXPECT_EQ(result.status, 2) << result.err;
  EXPECT_EQ(errors_of(result), Words{"rank 2: a file is broken"});
}

TEST_F(Processes, DoNotOutliveOneThatIsKilled) {
  for (const int victim : {0, 2}) {
    MpiJob job(3, "collectives_worker", {"wait"}, folder_.path());
    ASSERT_TRUE(job.wait_for_output("ready"));
    const std::vector<pid_t> pids = job.ranks();
    ASSERT_EQ(pids.size(), 3u);
    job.send(victim, SIGKILL);
    EXPECT_EQ(job.wait(60).status, 128 + SIGKILL);
    for (const pid_t pid : pids) EXPECT_TRUE(testing_support::ends(pid)) << "a process is left";
  }
}

#ifdef HAVE_FAKE_NCCL
class Nccl : public Processes {
 protected:
  Result run(int processes, const std::string& backend, const Words& environment) {
    return run_under_mpi(processes, "collectives_worker_on_host",
                         {"collectives", "--device", "cuda", "--backend", backend}, folder_.path(),
                         environment);
  }
  const std::string fake_ = "DEPTHROUTE_NCCL_LIBRARY=" + test_paths::bin() + "/libfake_nccl.so";
};

TEST_F(Nccl, WantsAGpuPerProcess) {
  const Result result = run(3, "nccl", {fake_, "CUDA_ON_HOST_DEVICES=2"});
  EXPECT_EQ(result.status, 2);
  ASSERT_FALSE(errors_of(result).empty()) << result.err;
  EXPECT_TRUE(has(errors_of(result)[0], "ranks 0 and 2 share")) << result.err;
  EXPECT_TRUE(has(errors_of(result)[0], "use distributed.backend: mpi")) << result.err;
}

TEST_F(Nccl, ThatCannotBeLoadedIsNamedOrDoneWithout) {
  const Words environment = {"DEPTHROUTE_NCCL_LIBRARY=/nowhere/libnccl.so", "CUDA_ON_HOST_DEVICES=2"};
  const Result asked = run(2, "nccl", environment);
  EXPECT_EQ(asked.status, 2);
  ASSERT_FALSE(errors_of(asked).empty()) << asked.err;
  EXPECT_TRUE(has(errors_of(asked)[0], "/nowhere/libnccl.so")) << asked.err;
  const Result result = run(2, "auto", environment);
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_TRUE(has(result.out, "by way of host memory")) << result.out;
}

TEST_F(Nccl, WorksForOneProcessThatAsksForIt) {
  const Result result = run(1, "nccl", {fake_});
  EXPECT_EQ(result.status, 0) << result.err;
}

TEST_F(Nccl, SaysWhatItReports) {
  const Result result = run(2, "nccl", {fake_, "CUDA_ON_HOST_DEVICES=2", "FAKE_NCCL_BROKEN=1"});
  EXPECT_EQ(result.status, 1);
  EXPECT_TRUE(has(result.err, "an error of the fake NCCL in a call that was under way")) << result.err;
}
#endif

}  // namespace
}  // namespace depthroute
