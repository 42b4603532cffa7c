// depthroute-eval in parts and in several processes: the file that one process writes.
#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>

#include "configs/base/error.h"
#include "data/atomic_path.h"
#include "data/files.h"
#include "eval/results/part.h"
#include "tests/distributed/launch.h"
#include "tests/eval/eval_program.h"
#include "tests/eval/results/compare_results.h"

namespace depthroute {
namespace {

namespace fs = std::filesystem;
using testing_support::Program;
using testing_support::Result;
using testing_support::run_under_mpi;

std::string part_argument(int64_t k, int64_t n) { return fmt::format("--part {}/{}", k, n); }

class EvalParallel : public EvalProgram {
 protected:
  EvalParallel() { setenv("OMP_NUM_THREADS", "1", 1); }

  /// The results of one process under another name, for comparison.
  std::string single(const std::string& text, const std::string& arguments = "") {
    const Ran ran = run(text, arguments);
    EXPECT_EQ(ran.status, 0) << ran.err;
    fs::rename(results(), folder_ / "single.h5");
    return folder_ / "single.h5";
  }
  void measure_parts(const std::string& text, int64_t n, const std::string& arguments = "") {
    for (int64_t k = n - 1; k >= 0; --k) {
      const Ran ran = run(text, part_argument(k, n) + " " + arguments);
      EXPECT_EQ(ran.status, 0) << ran.err;
    }
  }
  Ran merge(const std::string& text, int64_t n, const std::string& arguments = "") {
    return run(text, fmt::format("--merge {} {}", n, arguments));
  }
  void expect_equal_to(const std::string& expected) const {
    EXPECT_EQ(differences(expected, results()), std::vector<std::string>{});
  }
  std::string parts() const { return parts_folder(results()); }
  std::string part(int64_t k, int64_t n) const { return part_path(results(), {k, n}); }
  /// Status 2, one line that holds all of `words`, no results.
  void expect_refusal(const Ran& ran, const std::vector<std::string>& words) const {
    EXPECT_EQ(ran.status, kExitBadInput) << ran.err;
    for (const std::string& word : words) EXPECT_NE(ran.err.find(word), std::string::npos) << ran.err;
    EXPECT_EQ(std::count(ran.err.begin(), ran.err.end(), '\n'), 1) << ran.err;
    for (const auto& entry : fs::directory_iterator(folder_.path()))
      EXPECT_NE(entry.path().filename().string().substr(0, 10), "results.h5") << entry.path();
  }
  std::vector<std::string> arguments(const std::string& text, std::vector<std::string> more = {}) const {
    more.insert(more.begin(), write_config(text));
    return more;
  }
};

TEST_F(EvalParallel, AnyNumberOfPartsMergesToTheSingleFile) {
  const std::string text = config_text("cumulative", std::string(kGrid) + "routing: {weights: all}\n");
  for (const auto& [arguments, counts] : std::vector<std::pair<std::string, std::vector<int64_t>>>{
           {"--set micro_batch=1", {1, 2, 4, 5, 7}}, {"", {3}}}) {
    const std::string expected = single(text, arguments);
    for (int64_t n : counts) {
      SCOPED_TRACE(n);
      measure_parts(text, n, arguments);
      const Ran merged = merge(text, n, arguments);
      ASSERT_EQ(merged.status, 0) << merged.err;
      EXPECT_NE(merged.out.find("mask/embedding/attn/early"), std::string::npos);
      expect_equal_to(expected);
      fs::remove(results());
      fs::remove_all(parts());
    }
  }
}

TEST_F(EvalParallel, PlainAndWrappedModelsMergeToo) {
  for (const std::string& arguments :
       {std::string(), std::string("--set model.wrap.recency_bias=2.5 --set model.wrap.num_blocks=3")}) {
    const std::string text = config_text("additive", arguments.empty() ? "" : kGrid);
    const std::string expected = single(text, arguments);
    measure_parts(text, 2, arguments);
    const Ran merged = merge(text, 2, arguments);
    ASSERT_EQ(merged.status, 0) << merged.err;
    EXPECT_EQ(merged.out.find("wrapper:") != std::string::npos, !arguments.empty());
    expect_equal_to(expected);
    fs::remove_all(parts());
  }
}

TEST_F(EvalParallel, APartThatIsThereIsLeftAlone) {
  const std::string text = config_text("kimi", kGrid);
  measure_parts(text, 2);
  const auto written = fs::last_write_time(part(1, 2));
  const std::string hash = hash_file(part(1, 2));
  const Ran again = run(text, part_argument(1, 2));
  EXPECT_EQ(again.status, 0) << again.err;
  EXPECT_NE(again.out.find("nothing to do"), std::string::npos) << again.out;
  EXPECT_EQ(fs::last_write_time(part(1, 2)), written);

  // Damaged: measured again, to the same bytes (but for nothing: a part has no time in it).
  fs::resize_file(part(1, 2), fs::file_size(part(1, 2)) / 2);
  const Ran mended = run(text, part_argument(1, 2));
  EXPECT_EQ(mended.status, 0) << mended.err;
  EXPECT_NE(mended.err.find("measured again"), std::string::npos) << mended.err;
  EXPECT_EQ(hash_file(part(1, 2)), hash);

  const Ran other = run(text, part_argument(1, 2) + " --set statistics.seed=2");
  EXPECT_EQ(other.status, kExitBadInput);
  EXPECT_NE(other.err.find("another configuration"), std::string::npos) << other.err;
  EXPECT_NE(other.err.find(part(1, 2) + " was measured"), std::string::npos) << other.err;
}

TEST_F(EvalParallel, MergeNamesWhatIsMissingDamagedOrOfAnotherEvaluation) {
  const std::string text = config_text("kimi", kGrid), one = "--set micro_batch=1";
  for (int64_t k : {0, 2, 3, 6}) run(text, part_argument(k, 7) + " " + one);
  const auto refused = [&](const std::vector<std::string>& words, const std::string& more = "") {
    const fs::path moved = folder_ / "moved";
    const Ran ran = merge(text, 7, one + " " + more);
    fs::rename(parts(), moved);  // expect_refusal looks for anything else called like the results
    expect_refusal(ran, words);
    fs::rename(moved, parts());
  };
  refused({"3 of 7 parts are missing: 1, 4, 5"});
  measure_parts(text, 7, one);
  const Ran check = merge(text, 7, one + " --dry-run");
  EXPECT_EQ(check.status, 0) << check.err;
  EXPECT_FALSE(fs::exists(results()));
  refused({"part_00000_of_00007.h5", "another configuration", "--part 0/7"}, "--set statistics.alpha=0.1");

  std::string bytes = read_file(part(4, 7));
  fs::resize_file(part(4, 7), bytes.size() - 100);
  refused({"part_00004_of_00007.h5"});
  // One bit of a number: its checksum does not hold.
  const double nll = Hdf5Reader(part(3, 7)).doubles("/batch_00003/delta_nll").at(0);
  std::string other = read_file(part(3, 7));
  const size_t place = other.find(std::string(reinterpret_cast<const char*>(&nll), sizeof nll));
  ASSERT_NE(place, std::string::npos);
  write_file_atomically(part(4, 7), bytes);
  bytes = other;
  other[place] ^= 1;
  write_file_atomically(part(3, 7), other);
  refused({"part_00003_of_00007.h5", "--part 3/7"});
  write_file_atomically(part(3, 7), bytes);

  // Another checkpoint under the same name.
  fs::copy(golden_folder("kimi"), folder_ / "model", fs::copy_options::recursive);
  const std::string copied = "--set model.from=" + folder_ / "model";
  const fs::path away = folder_ / "away";
  fs::rename(parts(), away);
  measure_parts(text, 3, copied);
  std::ofstream(folder_ / "model/config.json", std::ios::app) << "\n";
  const Ran changed = merge(text, 3, copied);
  EXPECT_EQ(changed.status, kExitBadInput);
  EXPECT_NE(changed.err.find("another checkpoint"), std::string::npos) << changed.err;
  EXPECT_FALSE(fs::exists(results()));
}

TEST_F(EvalParallel, WhatCannotBeAPartIsRefused) {
  const std::string text = config_text("kimi", kGrid);
  for (const char* wrong : {"3/3", "-1/3", "1", "1/", "/3", "1/0", "1/3x", "x"})
    expect_refused(text, "--part: '" + std::string(wrong) + "'", "--part=" + std::string(wrong));
  expect_refused(text, "3 parts at most", part_argument(3, 4));
  expect_refused(text, "3 parts at most", "--merge 4");
  expect_refused(text, "--merge", "--merge 0");
  expect_refused(text, "exclude", "--merge 2 --part 0/2");
  expect_refused(text, "2 of 2 parts are missing", "--merge 2");
  const Ran planned = run(text, part_argument(2, 3) + " --dry-run");
  EXPECT_EQ(planned.status, 0) << planned.err;
  EXPECT_NE(planned.out.find("Part 2 of 3: sequences 6 to 6 of 7"), std::string::npos) << planned.out;
  expect_nothing_written();
}

TEST_F(EvalParallel, AKilledTaskLeavesNothingThatCountsAndRunsAgain) {
  const std::string text = config_text("reset", std::string(kGrid) + "routing: {weights: all}\n");
  const std::string expected = single(text, "--set micro_batch=1");
  fs::create_directories(parts());
  int killed = 0;
  for (int events = 1; events <= 24; events += 2) {
    SCOPED_TRACE(events);
    Program task("depthroute-eval", arguments(text, {"--set", "micro_batch=1", "--part", "0/2"}),
                 folder_.path());
    task.watch(parts());
    if (!task.wait_for_events(events)) break;
    task.send(SIGKILL);
    if (task.wait().status != 128 + SIGKILL) break;
    ++killed;
    if (fs::exists(part(0, 2))) break;  // killed after it was done
  }
  EXPECT_GE(killed, 3);
  measure_parts(text, 2, "--set micro_batch=1");
  for (const auto& entry : fs::directory_iterator(parts()))
    EXPECT_EQ(entry.path().extension(), ".h5") << entry.path();
  ASSERT_EQ(merge(text, 2, "--set micro_batch=1").status, 0);
  expect_equal_to(expected);
}

TEST_F(EvalParallel, UnderMpirunTheFileIsThatOfOneProcess) {
  DR_SKIP_WITHOUT_MPI();
  const std::string text = config_text("cumulative", std::string(kGrid) + "routing: {weights: all}\n");
  const std::string expected = single(text);
  for (int processes : {2, 4}) {  // three batches: the cells are spread as well
    const Result ran = run_under_mpi(processes, "depthroute-eval", arguments(text), folder_.path());
    ASSERT_EQ(ran.status, 0) << ran.err;
    EXPECT_NE(ran.out.find(fmt::format("{} ranks", processes)), std::string::npos) << ran.out;
    expect_equal_to(expected);
    fs::remove(results());
  }
  for (const char* k : {"0/2", "1/2"}) {
    const Result ran = run_under_mpi(2, "depthroute-eval", arguments(text, {"--part", k}), folder_.path());
    ASSERT_EQ(ran.status, 0) << ran.err;
  }
  const Result again =
      run_under_mpi(2, "depthroute-eval", arguments(text, {"--part", "1/2"}), folder_.path());
  EXPECT_EQ(again.status, 0) << again.err;
  EXPECT_NE(again.out.find("nothing to do"), std::string::npos) << again.out;
  ASSERT_EQ(merge(text, 2).status, 0);
  expect_equal_to(expected);
}

TEST_F(EvalParallel, AKilledProcessEndsTheJobWithoutAFile) {
  DR_SKIP_WITHOUT_MPI();
  const std::string text = config_text("kimi_full", "grids: [{edges: all, interventions: [mask]}]\n");
  int killed = 0;
  for (int attempt = 0; attempt < 5 && killed == 0; ++attempt) {
    testing_support::MpiJob job(3, "depthroute-eval", arguments(text, {"--set", "micro_batch=1"}),
                                folder_.path());
    ASSERT_TRUE(job.wait_for_output("3 ranks"));
    job.send(attempt % 3, SIGKILL);
    const Result ran = job.wait();
    if (ran.status == 0) continue;  // it was done by then
    ++killed;
    EXPECT_FALSE(fs::exists(results()));
  }
  EXPECT_EQ(killed, 1);
  const Result again = run_under_mpi(3, "depthroute-eval", arguments(text), folder_.path());
  EXPECT_EQ(again.status, 0) << again.err;
}

TEST_F(EvalParallel, UnderMpirunAFailureIsOneLineOfOneProcess) {
  DR_SKIP_WITHOUT_MPI();
  const auto fails = [&](const std::string& text, std::vector<std::string> more, const std::string& word) {
    const Result ran = run_under_mpi(3, "depthroute-eval", arguments(text, std::move(more)), folder_.path());
    EXPECT_EQ(ran.status, kExitBadInput) << ran.err;
    const auto errors = testing_support::errors_of(ran);
    ASSERT_EQ(errors.size(), 1u) << ran.err;
    EXPECT_NE(errors[0].find(word), std::string::npos) << errors[0];
    for (const auto& entry : fs::directory_iterator(folder_.path()))
      EXPECT_NE(entry.path().filename().string().substr(0, 10), "results.h5") << entry.path();
  };
  const std::string text = config_text("cumulative", kGrid);
  fails(text, {"--set", "data.sequences=12"}, "11 windows");
  fails(text, {"--set", "micro_batch=many"}, "micro_batch");
  fails(text, {"--merge", "2"}, "a single rank");
  std::vector<int32_t> tokens = random_tokens(100);
  tokens[40] = 98;  // in the second batch, but all tokens are looked at before anything is measured
  write_shard(folder_ / "val.bin", tokens, 300);
  fails(text, {}, "token 40 (of 100) is 98");
}

}  // namespace
}  // namespace depthroute
