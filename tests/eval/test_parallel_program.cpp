// depthroute-eval in parts and in several processes: the file that one process writes.
#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>

#include "configs/base/error.h"
#include "data/atomic_path.h"
#include "data/files.h"
#include "eval/results/unit_store.h"
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
    fs::remove_all(units());
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
  std::string units() const { return units_folder(results()); }
  /// All unit files, sorted by name.
  std::vector<std::string> unit_paths() const {
    std::vector<std::string> paths;
    if (fs::exists(units()))
      for (const auto& entry : fs::recursive_directory_iterator(units()))
        if (entry.path().extension() == ".h5") paths.push_back(entry.path());
    std::sort(paths.begin(), paths.end());
    return paths;
  }
  std::map<std::string, std::string> unit_hashes() const {
    std::map<std::string, std::string> hashes;
    for (const std::string& path : unit_paths()) hashes[path] = hash_file(path);
    return hashes;
  }
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
      fs::remove_all(units());
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
    fs::remove(results());
    fs::remove_all(units());
  }
}

TEST_F(EvalParallel, WhatIsThereIsLeftAlone) {
  const std::string text = config_text("kimi", kGrid);
  measure_parts(text, 2);
  const auto before = unit_hashes();
  const Ran again = run(text, part_argument(1, 2));
  EXPECT_EQ(again.status, 0) << again.err;
  EXPECT_NE(again.out.find("nothing to do"), std::string::npos) << again.out;
  // Other statistics, and a plain run: nothing is measured.
  const Ran other = run(text, "--set statistics.bootstrap=50");
  EXPECT_EQ(other.status, 0) << other.err;
  EXPECT_NE(other.out.find("Everything has been measured already"), std::string::npos) << other.out;
  EXPECT_EQ(unit_hashes(), before);

  // One more cell: that cell is measured, and nothing else.
  const Ran wider = run(config_text(
      "kimi", std::string(kGrid) + "  - {name: more, sources: [0], layers: [2], sublayers: [mlp], "
                                   "intervention: bias, value: 1.0}\n"));
  EXPECT_EQ(wider.status, 0) << wider.err;
  int added = 0;
  for (const auto& [path, hash] : unit_hashes()) {
    if (before.contains(path)) {
      EXPECT_EQ(before.at(path), hash);
      continue;
    }
    ++added;
    EXPECT_EQ(Hdf5Reader(path).strings("/cell/name"), std::vector<std::string>{"more"});
  }
  EXPECT_EQ(added, 3);  // batches

  // Damaged: measured again, to the same bytes (but for nothing: a unit has no time in it).
  const std::string damaged = before.begin()->first;
  const size_t cells = Hdf5Reader(damaged).strings("/cell/comparison").size();
  fs::resize_file(damaged, fs::file_size(damaged) / 2);
  const Ran mended = run(text);
  EXPECT_EQ(mended.status, 0) << mended.err;
  EXPECT_NE(mended.err.find(damaged), std::string::npos) << mended.err;
  EXPECT_NE(mended.err.find("measured again"), std::string::npos) << mended.err;
  EXPECT_EQ(Hdf5Reader(damaged).strings("/cell/comparison").size(), cells);
}

TEST_F(EvalParallel, ResultsOfAnotherMeasurementAreNotWrittenOver) {
  const std::string text = config_text("kimi", kGrid);
  ASSERT_EQ(run(text).status, 0);
  const std::string hash = hash_file(results());
  for (const std::string& arguments : {std::string(""), std::string("--merge 1 ")}) {
    const Ran refused = run(text, arguments + "--set data.sequences=6");
    EXPECT_EQ(refused.status, kExitBadInput) << refused.err;
    for (const char* word : {"another measurement", "data.sequences: 7 there, 6 here", "--replace"})
      EXPECT_NE(refused.err.find(word), std::string::npos) << refused.err;
    EXPECT_EQ(std::count(refused.err.begin(), refused.err.end(), '\n'), 1) << refused.err;
    EXPECT_EQ(hash_file(results()), hash);
  }
  EXPECT_EQ(run(text, "--set data.sequences=6 --replace").status, 0);
  EXPECT_NE(hash_file(results()), hash);
}

TEST_F(EvalParallel, MergeNamesTheMissingParts) {
  const std::string text = config_text("kimi", kGrid), one = "--set micro_batch=1";
  for (int64_t k : {0, 2, 3, 6}) run(text, part_argument(k, 7) + " " + one);
  const auto refused = [&](const std::vector<std::string>& words, const std::string& more = "") {
    const fs::path moved = folder_ / "moved";
    const Ran ran = merge(text, 7, one + " " + more);
    fs::rename(units(), moved);  // expect_refusal looks for anything else called like the results
    expect_refusal(ran, words);
    fs::rename(moved, units());
  };
  refused({"3 of 7 parts are missing or incomplete: 1, 4, 5", "--part K/7"});
  measure_parts(text, 7, one);
  const Ran check = merge(text, 7, one + " --dry-run");
  EXPECT_EQ(check.status, 0) << check.err;
  EXPECT_FALSE(fs::exists(results()));
  // A bit of a number: its seal does not hold.
  const std::string damaged = unit_paths().at(3), whole = read_file(damaged);
  std::string other = whole;
  other[whole.size() / 2] ^= 1;
  write_file_atomically(damaged, other);
  refused({fs::path(damaged).filename().string(), "damaged", "remove it"});
  write_file_atomically(damaged, whole);
  refused({"7 of 7 parts are missing"}, "--set data.choose=spaced --set data.sequences=7");

  // Another checkpoint under the same name.
  fs::copy(golden_folder("kimi"), folder_ / "model", fs::copy_options::recursive);
  const std::string copied = "--set model.from=" + folder_ / "model";
  fs::remove_all(units());
  measure_parts(text, 3, copied);
  std::ofstream(folder_ / "model/config.json", std::ios::app) << "\n";
  const Ran changed = merge(text, 3, copied);
  EXPECT_EQ(changed.status, kExitBadInput);
  EXPECT_NE(changed.err.find("3 of 3 parts are missing"), std::string::npos) << changed.err;
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
  expect_refused(text, "2 of 2 parts are missing or incomplete: 0, 1", "--merge 2");
  const Ran planned = run(text, part_argument(2, 3) + " --dry-run");
  EXPECT_EQ(planned.status, 0) << planned.err;
  EXPECT_NE(planned.out.find("Part 2 of 3: sequences 4 to 6 of 7"), std::string::npos) << planned.out;
  expect_nothing_written();
}

/// A run or a part that is killed at any time goes on where it was: no unit is measured twice.
TEST_F(EvalParallel, AKilledRunGoesOnWhereItWas) {
  const std::string text = config_text("reset", std::string(kGrid) + "routing: {weights: all}\n");
  ASSERT_EQ(run(text, "--set micro_batch=1").status, 0);
  const std::string expected = folder_ / "single.h5", store = fs::path(unit_paths().at(0)).parent_path();
  fs::rename(results(), expected);
  for (const std::vector<std::string>& mode : {std::vector<std::string>{}, {"--part", "0/1"}}) {
    fs::remove_all(store);
    fs::create_directory(store);
    int killed = 0;
    std::map<std::string, std::string> before;
    for (int events = 2; events <= 24; events += 2) {
      SCOPED_TRACE(events);
      std::vector<std::string> words = {"--set", "micro_batch=1"};
      words.insert(words.end(), mode.begin(), mode.end());
      Program task("depthroute-eval", arguments(text, words), folder_.path());
      task.watch(store);
      if (!task.wait_for_events(events)) break;
      task.send(SIGKILL);
      if (task.wait().status != 128 + SIGKILL) break;
      ++killed;
      const auto now = unit_hashes();
      for (const auto& [path, hash] : before) EXPECT_EQ(now.at(path), hash) << path;
      before = now;
    }
    EXPECT_GE(killed, 2);
    const auto written = [&] {
      std::map<std::string, fs::file_time_type> times;
      for (const std::string& path : unit_paths()) times[path] = fs::last_write_time(path);
      return times;
    };
    const auto times = written();
    ASSERT_EQ(run(text, "--set micro_batch=1").status, 0);
    for (const auto& [path, time] : times) EXPECT_EQ(written().at(path), time) << path;
    for (const auto& entry : fs::recursive_directory_iterator(units()))
      EXPECT_TRUE(entry.is_directory() || entry.path().extension() == ".h5" ||
                  entry.path().filename() == "part_00000_of_00001.lock")
          << entry.path();
    expect_equal_to(expected);
    fs::remove(results());
  }
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
    fs::remove_all(units());
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
    EXPECT_FALSE(fs::exists(results()));
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
