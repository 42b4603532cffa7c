// depthroute-eval and the place of its results: one writer at a time, nothing left of killed ones, memory
// that is there before anything is measured, and a terminal that goes away.
#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>

#include "configs/base/error.h"
#include "data/atomic_path.h"
#include "data/files.h"
#include "eval/results/output_lock.h"
#include "tests/eval/eval_program.h"
#include "tests/eval/results/compare_results.h"
#include "tests/support/program.h"

namespace depthroute {
namespace {

namespace fs = std::filesystem;
using testing_support::Program;

class EvalOutput : public EvalProgram {
 protected:
  EvalOutput() {
    setenv("OMP_NUM_THREADS", "1", 1);
    setenv("OPENBLAS_NUM_THREADS", "1", 1);
  }
  /// Everything in the folder that is called like the results.
  std::vector<std::string> outputs() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder_.path()))
      if (entry.path().filename().string().starts_with("results.h5"))
        names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    return names;
  }
  bool unfinished() const {
    for (const std::string& name : outputs())
      if (name.starts_with("results.h5.tmp-")) return true;
    return false;
  }
  /// Removes the results and what was measured for them.
  void remove_outputs() const {
    for (const std::string& name : outputs()) fs::remove_all(folder_ / name);
  }
  void expect_in_use(const Ran& ran) const {
    EXPECT_EQ(ran.status, kExitBadInput) << ran.err;
    EXPECT_EQ(ran.out, "");
    EXPECT_NE(ran.err.find("results.h5.lock: another process is writing this file"), std::string::npos)
        << ran.err;
    EXPECT_EQ(std::count(ran.err.begin(), ran.err.end(), '\n'), 1) << ran.err;
  }
};

/// The results and what they were made of.
const std::vector<std::string> kResultsAlone = {"results.h5", "results.h5.units"};

TEST_F(EvalOutput, ASecondWriterIsRefusedBeforeItMeasures) {
  const std::string text = config_text("kimi", kGrid);
  ASSERT_EQ(run(text, "--part 0/1").status, 0);
  {
    const OutputLock lock(results());
    expect_in_use(run(text));
    expect_in_use(run(text, "--merge 1"));
    EXPECT_EQ(run(text, "--dry-run").status, 0);
    EXPECT_EQ(run(text, "--merge 1 --dry-run").status, 0);
  }
  EXPECT_EQ(outputs(), std::vector<std::string>{"results.h5.units"});
  ASSERT_EQ(run(text, "--merge 1").status, 0);
  EXPECT_EQ(outputs(), (std::vector<std::string>{"results.h5", "results.h5.units"}));
}

TEST_F(EvalOutput, WhileOneMeasuresAnotherIsRefusedAndHarmsNothing) {
  const std::string text = config_text("kimi", std::string(kGrid) + "routing: {weights: all}\n");
  ASSERT_EQ(run(text).status, 0);
  fs::rename(results(), folder_ / "expected.h5");
  remove_outputs();
  const std::string config = write_config(text);
  bool stopped = false;
  for (int attempt = 0; attempt < 20 && !stopped; ++attempt) {
    Program first("depthroute-eval", {config}, folder_.path());
    first.watch(folder_.path());
    // It measures once its unfinished file is there, which is made under the lock.
    for (int events = 1; !unfinished() && first.wait_for_events(events); ++events) {
    }
    first.send(SIGSTOP);
    stopped = unfinished();  // else it was done before
    if (stopped) {
      TempFolder other;
      expect_in_use(
          testing_support::run_in_shell(test_paths::bin() + "/depthroute-eval " + config, other.path()));
    }
    first.send(SIGCONT);
    EXPECT_EQ(first.wait().status, 0);
    EXPECT_EQ(differences(folder_ / "expected.h5", results()), std::vector<std::string>{});
    EXPECT_EQ(outputs(), kResultsAlone);
    remove_outputs();
  }
  EXPECT_TRUE(stopped);
}

TEST_F(EvalOutput, AKilledEvaluationLeavesNothingTheNextOneDoesNotClear) {
  const std::string text = config_text("reset", std::string(kGrid) + "routing: {weights: all}\n");
  ASSERT_EQ(run(text).status, 0);
  fs::rename(results(), folder_ / "expected.h5");
  remove_outputs();
  int killed = 0;
  for (int events = 1; events <= 40; events += 3) {
    SCOPED_TRACE(events);
    Program task("depthroute-eval", {write_config(text)}, folder_.path());
    task.watch(folder_.path());
    if (!task.wait_for_events(events)) break;
    task.send(SIGKILL);
    if (task.wait().status != 128 + SIGKILL) break;
    ++killed;
  }
  EXPECT_GE(killed, 3);
  write_file_atomically(results() + ".tmp-1", "of one with another id");
  write_file_atomically(results() + ".tmp-12-3", "of one more");
  write_file_atomically(results() + ".lock", "");
  ASSERT_EQ(run(text).status, 0);
  EXPECT_EQ(outputs(), kResultsAlone);
  EXPECT_EQ(differences(folder_ / "expected.h5", results()), std::vector<std::string>{});
}

TEST_F(EvalOutput, MissingFoldersAreMade) {
  const std::string place = "new/sub/results.h5";
  ASSERT_EQ(run(config_text("reset"), "--set output=" + folder_ / place).status, 0);
  std::vector<std::string> names;
  for (const auto& entry : fs::recursive_directory_iterator(folder_ / "new"))
    names.push_back(fs::relative(entry.path(), folder_.path()));
  EXPECT_NE(std::find(names.begin(), names.end(), place), names.end());
  for (const std::string& name : names)
    EXPECT_TRUE(name == "new/sub" || name == place || name.starts_with(std::string(place) + ".units"))
        << name;
}

/// Bytes of address space that an evaluation takes at most; 0 where it may not be traced.
int64_t peak_address_space(const std::vector<std::string>& arguments) {
  std::vector<std::string> words = {test_paths::bin() + "/depthroute-eval"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    if (ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) _exit(127);
    const int nothing = open("/dev/null", O_WRONLY);
    dup2(nothing, STDOUT_FILENO);
    execv(pointers[0], pointers.data());
    _exit(127);
  }
  int64_t peak = 0;
  int status = 0;
  // Stopped for the first time as it starts, for the last just before its memory is given back.
  for (bool first = true; waitpid(child, &status, 0) == child && WIFSTOPPED(status); first = false) {
    if (first) ptrace(PTRACE_SETOPTIONS, child, nullptr, PTRACE_O_TRACEEXIT | PTRACE_O_EXITKILL);
    if (status >> 8 == (SIGTRAP | PTRACE_EVENT_EXIT << 8)) {
      std::ifstream lines(fmt::format("/proc/{}/status", child));
      for (std::string word; lines >> word;)
        if (word == "VmPeak:") lines >> peak;
    }
    const int signal = WSTOPSIG(status) == SIGTRAP ? 0 : WSTOPSIG(status);
    ptrace(PTRACE_CONT, child, nullptr, signal);
  }
  EXPECT_TRUE(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 127)) << status;
  return peak * 1024;
}

TEST_F(EvalOutput, DrawsThatNeedMoreMemoryThanThereIsAreRefusedBeforeMeasuring) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers reserve more address space than any limit leaves";
#endif
  const std::string text = config_text("kimi", kGrid);
  const std::string draws = "--set statistics.bootstrap=100000000";  // 763 MiB for one quantity
  const int64_t needed = peak_address_space({write_config(text)});
  if (needed == 0) GTEST_SKIP() << "tracing a child is not permitted here";
  remove_outputs();
  const auto limited = [&](const std::string& arguments) {
    return run_shell(fmt::format("ulimit -v {}; ", (needed >> 10) + 400 * 1024), text, arguments);
  };
  const auto refused = [&](const Ran& ran) {
    EXPECT_EQ(ran.status, kExitFailure) << ran.err;
    EXPECT_NE(ran.err.find("statistics.bootstrap: 100000000 draws need 763 MiB"), std::string::npos)
        << ran.err;
    EXPECT_EQ(std::count(ran.err.begin(), ran.err.end(), '\n'), 1) << ran.err;
    EXPECT_EQ(ran.out, "");
  };
  refused(limited(draws));
  EXPECT_FALSE(fs::exists(results()));
  remove_outputs();
  ASSERT_EQ(limited("").status, 0);
  remove_outputs();
  ASSERT_EQ(limited("--part 0/1 " + draws).status, 0);
  refused(limited("--merge 1 " + draws));
  EXPECT_EQ(outputs(), std::vector<std::string>{"results.h5.units"});
  const Ran planned = run(text, "--dry-run " + draws);
  EXPECT_NE(planned.out.find("bootstrap          762.9 MiB"), std::string::npos) << planned.out;
}

TEST_F(EvalOutput, ATerminalThatGoesAwayEndsNoEvaluation) {
  const std::string text = config_text("kimi", kGrid), config = write_config(text);
  ASSERT_EQ(run(text).status, 0);
  fs::rename(results(), folder_ / "expected.h5");
  remove_outputs();
  const std::string program = test_paths::bin() + "/depthroute-eval " + config;
  for (const char* streams : {">/dev/full", "2>/dev/full", ">/dev/full 2>&1", "2>&-", "<&- 2>&-"}) {
    SCOPED_TRACE(streams);
    const int status = std::system((program + " " + streams).c_str());
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
    EXPECT_EQ(differences(folder_ / "expected.h5", results()), std::vector<std::string>{});
    EXPECT_EQ(outputs(), kResultsAlone);
    remove_outputs();
  }
}

}  // namespace
}  // namespace depthroute
