// What takes no launcher: the environments launchers leave, the message of builds without MPI (this program
// has mpi_absent.cpp in place of MPI), the thread that makes calls, and the order of sums.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <random>

#include "configs/base/error.h"
#include "kernels/collectives/backoff.h"
#include "kernels/collectives/launcher.h"
#include "kernels/collectives/pairwise_tree.h"
#include "kernels/collectives/worker.h"
#include "kernels/collectives/world.h"
#include "tests/support/temp_folder.h"

namespace depthroute {
namespace {

/// The environment of a launcher and nothing of another's.
class Launched : public testing::Test {
 protected:
  void SetUp() override { clear(); }
  void TearDown() override { clear(); }
  static void clear() {
    for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMI_RANK", "PMIX_RANK",
                             "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", "SLURM_PROCID"})
      unsetenv(name);
  }
  static Launch with(const std::vector<std::pair<const char*, const char*>>& variables) {
    clear();
    for (const auto& [name, value] : variables) setenv(name, value, 1);
    return launch_of_environment();
  }
};

TEST_F(Launched, IsReadFromWhatLaunchersSet) {
  const auto same = [](const Launch& a, const Launch& b) {
    return a.launcher == b.launcher && a.processes == b.processes && a.has_mpi == b.has_mpi;
  };
  EXPECT_TRUE(same(with({}), {"", 1, false}));
  EXPECT_TRUE(same(with({{"OMPI_COMM_WORLD_SIZE", "4"}, {"PMIX_RANK", "0"}}), {"mpirun", 4, true}));
  EXPECT_TRUE(same(with({{"PMI_SIZE", "3"}, {"PMI_RANK", "1"}}), {"mpirun", 3, true}));
  EXPECT_TRUE(same(with({{"SLURM_STEP_NUM_TASKS", "2"}, {"PMIX_RANK", "0"}}), {"srun", 2, true}));
  EXPECT_TRUE(same(with({{"SLURM_STEP_NUM_TASKS", "2"}}), {"srun", 2, false}));
  // A batch script's shell, before any srun; mpirun inside an allocation.
  EXPECT_TRUE(same(with({{"SLURM_NTASKS", "8"}, {"SLURM_PROCID", "0"}}), {"", 1, false}));
  EXPECT_TRUE(same(with({{"SLURM_NTASKS", "8"}, {"OMPI_COMM_WORLD_SIZE", "8"}}), {"mpirun", 8, true}));
  EXPECT_TRUE(same(with({{"PMIX_RANK", "0"}}), {"mpirun", 0, true}));
}

TEST_F(Launched, WithoutMpiOnlyOneProcessWorks) {
  with({{"OMPI_COMM_WORLD_SIZE", "4"}});
  EXPECT_TRUE(has(message_of<ConfigError>([] { make_world(); }),
                  "mpirun started 4 processes, but this program was built without MPI"));
  with({{"SLURM_STEP_NUM_TASKS", "2"}});
  EXPECT_TRUE(has(message_of<ConfigError>([] { make_world(); }), "srun started 2 processes"));
  with({{"OMPI_COMM_WORLD_SIZE", "1"}});
  EXPECT_EQ(make_world()->size(), 1);
  with({});
  const std::unique_ptr<World> world = make_world();
  EXPECT_EQ(world->gather("x"), std::vector<std::string>{"x"});
  EXPECT_EQ(world->broadcast("y"), "y");
  EXPECT_EQ(world->make_collectives(Device::cpu, {})->describe(), "1 process");
  // One process leaves its exceptions to the caller.
  EXPECT_THROW(run_in_world([](World&) -> int { throw DataError("bad"); }), DataError);
  EXPECT_THROW(world->together([] { throw SystemError("bad"); }), SystemError);
}

TEST(Worker, MakesCallsInTheirOrderInOneThread) {
  std::atomic<bool> give_up = false;
  std::vector<int> made;
  bool prepared = false;
  {
    Worker queue([&] { prepared = true; }, give_up);
    Worker::Ticket last = 0;
    for (int i = 0; i < 100; ++i) last = queue.submit([&made, i] { made.push_back(i); });
    queue.wait(last);
    EXPECT_EQ(made.size(), 100u);
    EXPECT_EQ(queue.statistics().calls, 100);
    queue.submit([&] { made.push_back(100); });  // not waited for: done before the queue goes
  }
  EXPECT_TRUE(prepared);
  for (int i = 0; i <= 100; ++i) EXPECT_EQ(made.at(static_cast<size_t>(i)), i);
}

TEST(Worker, MakesNoCallAfterOneThatFailedAndThrowsWhatItThrew) {
  std::atomic<bool> give_up = false;
  Worker queue([] {}, give_up);
  const Worker::Ticket good = queue.submit([] {});
  const Worker::Ticket bad = queue.submit([] { throw SystemError("the network is gone"); });
  EXPECT_EQ(message_of<SystemError>([&] { queue.wait(bad); }), "the network is gone");
  queue.wait(good);  // is over, whatever came later
  EXPECT_THROW(queue.submit([] { FAIL(); }), SystemError);
  EXPECT_THROW(queue.rethrow_error(), SystemError);
}

TEST(Worker, GivesUpACallThatHangsWhenAnExceptionPassesThrough) {
  std::atomic<bool> give_up = false;
  EXPECT_THROW(
      {
        Worker queue([] {}, give_up);
        queue.submit([&] {
          Backoff backoff({"a call", 1e9, &give_up});
          for (;;) backoff.rest();
        });
        throw SystemError("something else");
      },
      SystemError);
}

TEST(Backoff, EndsWithWhatWasWaitedFor) {
  Backoff backoff({"gather", 0.01});
  const std::string said = message_of<CollectiveTimeout>([&] {
    for (;;) backoff.rest();
  });
  EXPECT_EQ(said, "waited 0.01 s for the other processes in gather: one of them died or hangs");
}

/// Halves of a power of two where there is one below: what carrying up amounts to.
float tree(const std::vector<float>& parts, size_t begin, size_t end) {
  if (end - begin == 1) return parts[begin];
  size_t half = 1;
  while (2 * half < end - begin) half *= 2;
  return tree(parts, begin, begin + half) + tree(parts, begin + half, end);
}

TEST(PairwiseTree, AddsNeighboursAndCarriesUpWhatIsLeft) {
  std::mt19937 random(7);
  std::uniform_real_distribution<float> values(-1, 1);
  for (size_t parts = 1; parts <= 17; ++parts) {
    constexpr size_t kCount = 4111;  // more than a block, and odd
    std::vector<std::vector<float>> x(parts, std::vector<float>(kCount));
    for (std::vector<float>& part : x)
      for (float& value : part) value = values(random);
    const std::vector<std::vector<float>> before = x;
    std::vector<const float*> pointers;
    for (const std::vector<float>& part : x) pointers.push_back(part.data());
    std::vector<float>& sum = x[parts / 2];  // into one of the parts
    sum_pairwise(pointers, kCount, sum.data());
    for (size_t i = 0; i < kCount; ++i) {
      std::vector<float> column;
      for (const std::vector<float>& part : before) column.push_back(part[i]);
      ASSERT_EQ(sum[i], tree(column, 0, parts)) << parts << " parts, element " << i;
    }
    for (size_t part = 0; part < parts; ++part) EXPECT_TRUE(part == parts / 2 || x[part] == before[part]);
  }
}

}  // namespace
}  // namespace depthroute
