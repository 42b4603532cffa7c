// Kernels that are wrong on purpose: the sanitizers must find each fault through the emulator, and report
// nothing for the correct kernel.
#include <gtest/gtest.h>
#include <sys/personality.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <string>

namespace {

struct Outcome {
  int status = 0;      // exit status, or -signal
  std::string output;  // stdout and stderr
};

/// Runs DEPTHROUTE_BIN_DIR/program with one argument, without this program's own sanitizer options.
Outcome run(const std::string& program, const std::string& fault) {
  const std::string path = std::string(DEPTHROUTE_BIN_DIR) + "/" + program;
  int ends[2];
  if (pipe(ends) != 0) ADD_FAILURE() << "pipe";
  const pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], STDOUT_FILENO);
    dup2(ends[1], STDERR_FILENO);
    close(ends[0]);
    // ThreadSanitizer's shadow memory may collide with randomised mappings.
    personality(ADDR_NO_RANDOMIZE);
    for (const char* name : {"ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS", "LSAN_OPTIONS"}) unsetenv(name);
    execl(path.c_str(), path.c_str(), fault.c_str(), static_cast<char*>(nullptr));
    _exit(127);
  }
  close(ends[1]);
  Outcome outcome;
  std::array<char, 4096> buffer;
  for (ssize_t got; (got = read(ends[0], buffer.data(), buffer.size())) > 0;) {
    outcome.output.append(buffer.data(), static_cast<size_t>(got));
  }
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  outcome.status = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  return outcome;
}

void expect_found(const std::string& program, const std::string& fault, const std::string& words) {
  const Outcome outcome = run(program, fault);
  EXPECT_NE(outcome.status, 0) << fault << " went unnoticed";
  EXPECT_NE(outcome.output.find(words), std::string::npos) << outcome.output;
  EXPECT_NE(outcome.output.find("samples.cu:"), std::string::npos)
      << "the kernel's line is named: " << outcome.output;
}

void expect_clean(const std::string& program) {
  const Outcome outcome = run(program, "none");
  EXPECT_EQ(outcome.status, 0) << outcome.output;
  EXPECT_EQ(outcome.output, "nothing noticed\n");
}

TEST(AddressSanitizer, FindsPlantedFaults) {
#ifndef HAVE_planted_faults_asan
  GTEST_SKIP() << "this compiler has no -fsanitize=address,alignment";
#endif
  expect_clean("planted_faults_asan");
  expect_found("planted_faults_asan", "global_out_of_bounds", "AddressSanitizer: heap-buffer-overflow");
  expect_found("planted_faults_asan", "static_out_of_bounds", "AddressSanitizer: global-buffer-overflow");
  expect_found("planted_faults_asan", "dynamic_out_of_bounds", "AddressSanitizer: heap-buffer-overflow");
  expect_found("planted_faults_asan", "misaligned", "misaligned address");
}

TEST(ThreadSanitizer, FindsMissingBarriers) {
#ifndef HAVE_planted_faults_tsan
  GTEST_SKIP() << "this compiler has no -fsanitize=thread";
#endif
  expect_clean("planted_faults_tsan");
  expect_found("planted_faults_tsan", "missing_barrier", "WARNING: ThreadSanitizer: data race");
  expect_found("planted_faults_tsan", "overwritten_too_early", "WARNING: ThreadSanitizer: data race");
}

}  // namespace
