// Runs a built program as a child and watches what it writes, so that tests can stop it at moments of their
// choosing.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace depthroute::testing_support {

struct Result {
  int status = 0;  // exit status, or 128 + signal
  std::string out, err;
};

class Program {
 public:
  /// Starts DEPTHROUTE_BIN_DIR/<name>, or what an absolute path names; its output goes to files in `folder`.
  Program(const std::string& name, const std::vector<std::string>& arguments, const std::string& folder);
  ~Program();  // kills it if it still runs
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  /// Blocks until `events` things were written, made or renamed in the watched folders since start; false if
  /// the program ended first. Fails the test after a minute without any.
  bool wait_for_events(int events);
  /// Watches a folder that exists. Call before the first wait_for_events().
  void watch(const std::string& path);
  void send(int signal);
  Result wait();

 private:
  std::string folder_;
  pid_t pid_ = -1;
  int events_fd_ = -1;
};

/// Starts a program and waits for its end.
Result run_program_to_end(const std::string& name, const std::vector<std::string>& arguments,
                          const std::string& folder);

/// Runs a command line in a shell, for redirections and limits; its output goes to files in `folder`. Threads
/// are those of the caller's environment.
Result run_in_shell(const std::string& command, const std::string& folder);

}  // namespace depthroute::testing_support
