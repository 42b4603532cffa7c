// depthroute-train as a process among others: signals at any moment, standard streams that are closed or
// full, limits on memory and files, what stands in the place of a configuration.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>

#include "configs/base/error.h"
#include "data/files.h"
#include "data/manifest.h"
#include "tests/support/paths.h"
#include "tests/train/tiny_run.h"
#include "train/checkpoint/run_folder.h"

namespace depthroute {
namespace {

namespace fs = std::filesystem;
using testing_support::is_one_line;
using testing_support::Program;
using testing_support::Result;

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kSanitized = true;  // reserves terabytes of address space
#else
constexpr bool kSanitized = false;
#endif

void limit(__rlimit_resource resource, rlim_t value) {
  const rlimit both = {value, value};
  setrlimit(resource, &both);
}

void redirect(int descriptor, const char* path, int flags) {
  const int opened = open(path, flags, 0644);
  dup2(opened, descriptor);
  close(opened);
}

class Process : public testing_support::TinyRun {
 protected:
  void SetUp() override {
    TinyRun::SetUp();
    config_ = write_config("run", 40);
  }

  /// Runs the program on config_ in surroundings that `prepare` makes, in the child; its output goes to files
  /// before that. A minute of processor time ends what spins.
  Result run_where(const std::function<void()>& prepare, std::vector<std::string> arguments = {}) {
    arguments.insert(arguments.begin(), {test_paths::bin() + "/depthroute-train", config_});
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    const std::string out = path("stdout"), err = path("stderr");
    const pid_t child = fork();
    if (child == 0) {
      redirect(STDOUT_FILENO, out.c_str(), O_WRONLY | O_CREAT | O_TRUNC);
      redirect(STDERR_FILENO, err.c_str(), O_WRONLY | O_CREAT | O_TRUNC);
      setenv("OMP_NUM_THREADS", "1", 1);
      limit(RLIMIT_CPU, 60);
      prepare();
      execv(argv[0], argv.data());
      _exit(126);
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), read_file(out), read_file(err)};
  }

  std::vector<CheckpointFolder> checkpoints() const { return list_checkpoints(path("run")); }

  std::string config_;
};

// The state in which the program finds itself after it has started itself again with better settings:
// whatever came in between waits.
TEST_F(Process, ASignalWhileItStartsIsAnsweredBeforeAnythingIsWritten) {
  for (const int signal : {SIGTERM, SIGUSR1, SIGHUP, SIGINT}) {
    const Result result = run_where([signal] {
      sigset_t set;
      sigemptyset(&set);
      sigaddset(&set, signal);
      sigprocmask(SIG_BLOCK, &set, nullptr);
      raise(signal);
      setenv("DEPTHROUTE_RESTARTED", "1", 1);
    });
    EXPECT_EQ(result.status, kExitInterrupted) << result.err;
    EXPECT_EQ(result.err, std::string("depthroute-train: stopped by SIG") + sigabbrev_np(signal) +
                              " before the first step; nothing was written: run the same command again\n");
    EXPECT_FALSE(exists(path("run")));
  }
}

TEST_F(Process, AHangupStopsWithACheckpointUnlessItWasIgnored) {
  const auto hung_up = [&](const std::string& output, bool ignored) {
    const std::string config = write_config(output, 120);
    fs::create_directories(path(output));
    if (ignored) std::signal(SIGHUP, SIG_IGN);
    Program program("depthroute-train", {config}, folder_);
    std::signal(SIGHUP, SIG_DFL);
    program.watch(path(output));
    if (program.wait_for_events(20)) program.send(SIGHUP);
    return program.wait();
  };
  const Result stopped = hung_up("stopped", false);
  EXPECT_EQ(stopped.status, kExitInterrupted) << stopped.err;
  EXPECT_FALSE(list_checkpoints(path("stopped")).empty());
  ASSERT_EQ(train(path("stopped.yaml")).status, 0);

  const Result went_on = hung_up("ignored", true);  // nohup
  EXPECT_EQ(went_on.status, 0) << went_on.err;
  expect_same_run("stopped", "ignored", 120);
}

TEST_F(Process, AReaderThatLeavesStopsTheRunWithACheckpoint) {
  const Result result = run_where([] {
    int ends[2];
    if (pipe(ends) != 0) _exit(126);
    close(ends[0]);
    dup2(ends[1], STDOUT_FILENO);
    close(ends[1]);
    std::signal(SIGPIPE, SIG_IGN);  // as under some schedulers
  });
  EXPECT_EQ(result.status, kExitInterrupted);
  EXPECT_NE(result.err.find("standard output cannot be written: Broken pipe"), std::string::npos)
      << result.err;
  EXPECT_NE(result.err.find("stopped by SIGPIPE after step 1"), std::string::npos) << result.err;
  ASSERT_EQ(checkpoints().size(), 1U);
  EXPECT_EQ(verify_manifest(checkpoints().front().path).step, 1);
}

TEST_F(Process, StopsAlthoughNobodyReadsItsOutput) {
  const std::string pipe = path("stdout");
  ASSERT_EQ(mkfifo(pipe.c_str(), 0644), 0);
  const int both = open(pipe.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC);
  const std::string page(4096, '.');
  while (write(both, page.data(), page.size()) > 0) {
  }
  fs::create_directories(path("run"));
  Program program("depthroute-train", {config_}, folder_);
  fs::remove(pipe);
  program.watch(path("run"));
  while (!exists(metrics_path(path("run"))) && program.wait_for_events(1)) {
  }
  program.send(SIGTERM);  // while it waits to say what it trains
  const Result result = program.wait();
  EXPECT_EQ(result.status, kExitInterrupted) << result.err;
  EXPECT_NE(result.err.find("standard output cannot be written: nobody reads it"), std::string::npos)
      << result.err;
  ASSERT_FALSE(checkpoints().empty());
  close(both);
}

// What counts is on disk: the log lines alone are lost, and said to be.
TEST_F(Process, ARunGoesOnWithoutItsOutput) {
  const auto full = [] { redirect(STDOUT_FILENO, "/dev/full", O_WRONLY); };
  const auto closed = [] {
    close(STDOUT_FILENO);
    close(STDERR_FILENO);
    close(STDIN_FILENO);
  };
  const Result unshown = run_where(full);
  EXPECT_EQ(unshown.status, 0);
  EXPECT_EQ(unshown.err.find("warning: standard output cannot be written: No space left on device"), 0U)
      << unshown.err;
  EXPECT_EQ(unshown.err.find("warning", 1), std::string::npos) << unshown.err;
  EXPECT_NE(unshown.err.find("done: 40 steps"), std::string::npos) << unshown.err;
  EXPECT_EQ(verify_manifest(checkpoints().back().path).step, 40);

  config_ = write_config("closed", 40);
  EXPECT_EQ(run_where(closed).status, 0);
  expect_same_run("run", "closed", 40);
  for (const char* file : {"a.bin", "b.bin", "c.bin"})  // were not taken for standard output
    EXPECT_EQ(read_file(path(file)).substr(0, 4), read_file(path("val.bin")).substr(0, 4)) << file;
}

TEST_F(Process, WhatWasAskedForAndCannotBePrintedIsStatusOne) {
  for (const char* request : {"--help", "--help-config", "--version", "--print-config", "--dry-run"}) {
    const Result full = run_where([] { redirect(STDOUT_FILENO, "/dev/full", O_WRONLY); }, {request});
    EXPECT_EQ(full.status, kExitFailure) << request;
    EXPECT_EQ(full.err,
              "depthroute-train: error: standard output: cannot be written: No space left on device\n")
        << request;
    const Result closed = run_where([] { close(STDOUT_FILENO); }, {request});
    EXPECT_EQ(closed.status, kExitFailure) << request;
    EXPECT_EQ(closed.err,
              "depthroute-train: error: standard output: cannot be written: Bad file descriptor\n")
        << request;
  }
  const std::vector<std::string> wrong = {"--set", "seed=x"};
  EXPECT_EQ(run_where([] { close(STDERR_FILENO); }, wrong).status, kExitBadInput);
  EXPECT_EQ(run_where([] { redirect(STDERR_FILENO, "/dev/full", O_WRONLY); }, wrong).status, kExitBadInput);
}

TEST_F(Process, AFileThatMayNotGrowIsOneLineAndKeepsTheCheckpoint) {
  ASSERT_EQ(train(write_config("run", 7)).status, 0);
  config_ = write_config("run", 40);
  const Result result =
      run_where([] { limit(RLIMIT_FSIZE, 50'000); }, {"--set", "checkpoint.accept_changes=true"});
  EXPECT_EQ(result.status, kExitFailure);
  EXPECT_TRUE(is_one_line(result.err));
  EXPECT_NE(result.err.find("File too large"), std::string::npos) << result.err;
  ASSERT_EQ(checkpoints().size(), 1U);
  EXPECT_EQ(verify_manifest(checkpoints().front().path).step, 7);
}

// From too little to load the libraries to enough: never a crash, never a standstill. OpenBLAS would ask for
// ever.
TEST_F(Process, TooLittleMemoryIsOneLine) {
  if (kSanitized) GTEST_SKIP() << "AddressSanitizer takes all address space there is";
  for (const auto resource : {RLIMIT_AS, RLIMIT_DATA})
    for (const char* threads : {"1", "2"}) {
      int refused = 0;
      Result result = {.status = -1};
      for (int mib = 200; mib <= 4000 && result.status != 0; mib += mib < 1600 ? 40 : 400) {
        fs::remove_all(path("run"));
        result = run_where([&] {
          setenv("OMP_NUM_THREADS", threads, 1);
          setenv("OMP_WAIT_POLICY", "passive", 1);
          limit(resource, static_cast<rlim_t>(mib) << 20);
        });
        if (result.status == 127) continue;  // the loader's own error
        if (result.status == 0) break;
        ASSERT_EQ(result.status, kExitFailure) << mib << " MiB: " << result.out << result.err;
        // The OpenMP runtime's own words, where there is room for everything but a thread's stack, begin with
        // an empty line.
        if (result.err.starts_with("\nlibgomp: Thread creation failed: ")) result.err.erase(0, 1);
        ASSERT_TRUE(is_one_line(result.err)) << mib << " MiB";
        refused += result.err.find(": error: OpenBLAS needs ") != std::string::npos;
      }
      EXPECT_EQ(result.status, 0) << result.err;
      EXPECT_GE(refused, 1);
    }
}

TEST_F(Process, APlanThatCannotBeCountedIsRefused) {
  const std::vector<std::string> huge = {"--set", "optimizer.warmup=0",
                                         "--set", "data.seq_len=1",
                                         "--set", "train.steps=1",
                                         "--set", "model.num_heads=4096",
                                         "--set", "model.num_kv_heads=4096",
                                         "--set", "model.head_dim=4096",
                                         "--set", "model.num_layers=256",
                                         "--set", "train.micro_batch=178252073",
                                         "--set", "train.global_batch=178252073"};
  for (const bool dry : {false, true}) {
    std::vector<std::string> arguments = huge;
    if (dry) arguments.emplace_back("--dry-run");
    const Result result = train(config_, arguments);
    EXPECT_EQ(result.status, kExitBadInput);
    EXPECT_TRUE(is_one_line(result.err));
    EXPECT_NE(result.err.find("more than 2^63 bytes"), std::string::npos) << result.err;
    EXPECT_EQ(result.out, "");
  }
  EXPECT_FALSE(exists(path("run")));
}

TEST_F(Process, WhatIsNoConfigurationFileIsRefusedAtOnce) {
  const std::string pipe = path("pipe.yaml"), odd = path("caf\xe9.yaml");
  ASSERT_EQ(mkfifo(pipe.c_str(), 0644), 0);
  for (const auto& [file, said] : std::vector<std::pair<std::string, std::string>>{
           {pipe, ": is a pipe (FIFO), not a file\n"},
           {"/dev/zero", ": is a device, not a file\n"},
           {folder_, ": is a folder, not a file\n"},
           {odd, "/caf\\xe9.yaml: cannot open the configuration: No such file or directory\n"}}) {
    const Result result = train(file);
    EXPECT_EQ(result.status, kExitBadInput) << file;
    EXPECT_TRUE(is_one_line(result.err)) << file;
    EXPECT_NE(result.err.find(said), std::string::npos) << result.err;
  }
  std::ofstream(config_, std::ios::app) << "# \xe9\n";
  const Result bytes = train(config_);
  EXPECT_EQ(bytes.status, kExitBadInput);
  EXPECT_NE(bytes.err.find("holds the byte \\xe9, which is not UTF-8"), std::string::npos) << bytes.err;
  EXPECT_FALSE(exists(path("run")));
}

TEST_F(Process, IdleThreadsSleepUnlessTheUserHasChosen) {
  const auto spin_counts = [&](const char* variable, const char* value) {
    const Result result = run_where(
        [&] {
          for (const char* name : {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY"})
            unsetenv(name);
          setenv("OMP_NUM_THREADS", "2", 1);
          setenv("OMP_DISPLAY_ENV", "verbose", 1);
          if (variable != nullptr) setenv(variable, value, 1);
        },
        {"--print-config"});
    EXPECT_EQ(result.status, 0) << result.err;
    EXPECT_EQ(result.out, read_file(config_));
    std::vector<std::string> counts;  // one for each time the library was loaded
    const std::string name = "GOMP_SPINCOUNT = '";
    for (size_t at = result.err.find(name); at != std::string::npos; at = result.err.find(name, at + 1)) {
      const size_t begin = at + name.size();
      counts.push_back(result.err.substr(begin, result.err.find('\'', begin) - begin));
    }
    return counts;
  };
  if (spin_counts("GOMP_SPINCOUNT", "77").empty())
    GTEST_SKIP() << "this OpenMP does not say how its threads wait";
  EXPECT_EQ(spin_counts("GOMP_SPINCOUNT", "77").back(), "77");
  EXPECT_NE(spin_counts("OMP_WAIT_POLICY", "active").back(), "0");
  const std::vector<std::string> usual = spin_counts(nullptr, nullptr);
  EXPECT_EQ(usual.back(), "0");
  EXPECT_EQ(usual.size(), 2U) << "one restart";
}

}  // namespace
}  // namespace depthroute
