#include "tests/support/program.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <spawn.h>
#include <sys/inotify.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "tests/support/paths.h"

extern char** environ;

namespace depthroute::testing_support {

namespace {

std::string slurp(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

/// The environment with one thread: tiny models only lose time to more, and several tests run side by side.
std::vector<std::string> child_environment() {
  std::vector<std::string> result;
  for (char** entry = environ; *entry; ++entry)
    if (std::string_view(*entry).substr(0, 16) != "OMP_NUM_THREADS=") result.emplace_back(*entry);
  result.emplace_back("OMP_NUM_THREADS=1");
  return result;
}

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> result;
  for (std::string& text : strings) result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

}  // namespace

Program::Program(const std::string& name, const std::vector<std::string>& arguments,
                 const std::string& folder)
    : folder_(folder), events_fd_(inotify_init1(IN_CLOEXEC | IN_NONBLOCK)) {
  std::vector<std::string> command = {name.starts_with('/') ? name : test_paths::bin() + "/" + name};
  command.insert(command.end(), arguments.begin(), arguments.end());
  std::vector<std::string> environment = child_environment();
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  constexpr int kFlags = O_WRONLY | O_CREAT | O_TRUNC;
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, (folder + "/stdout").c_str(), kFlags, 0644);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, (folder + "/stderr").c_str(), kFlags, 0644);
  const int failure = posix_spawn(&pid_, command[0].c_str(), &actions, nullptr, pointers(command).data(),
                                  pointers(environment).data());
  posix_spawn_file_actions_destroy(&actions);
  if (failure != 0) pid_ = -1;
  EXPECT_EQ(failure, 0) << command[0];
}

Program::~Program() {
  if (pid_ > 0) {
    send(SIGKILL);
    wait();
  }
  close(events_fd_);
}

void Program::watch(const std::string& path) {
  const int watched = inotify_add_watch(events_fd_, path.c_str(), IN_MODIFY | IN_CREATE | IN_MOVED_TO);
  EXPECT_GE(watched, 0) << path;
}

bool Program::wait_for_events(int events) {
  const int process = static_cast<int>(syscall(SYS_pidfd_open, pid_, 0));
  EXPECT_GE(process, 0);
  bool ended = false;
  while (events > 0 && !ended) {
    std::array<pollfd, 2> waiting = {{{events_fd_, POLLIN, 0}, {process, POLLIN, 0}}};
    const int ready = poll(waiting.data(), waiting.size(), 60'000);
    if (ready < 0 && errno == EINTR) continue;
    EXPECT_GT(ready, 0) << "nothing happened for a minute";
    if (ready <= 0) break;
    ended = waiting[1].revents != 0;
    alignas(inotify_event) char buffer[4096];
    const ssize_t size = read(events_fd_, buffer, sizeof(buffer));
    for (ssize_t at = 0; at < size; --events)
      at += static_cast<ssize_t>(sizeof(inotify_event) +
                                 reinterpret_cast<const inotify_event*>(buffer + at)->len);
  }
  close(process);
  return !ended;
}

void Program::send(int signal) { kill(pid_, signal); }

Result Program::wait() {
  int status = 0;
  while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), slurp(folder_ + "/stdout"),
          slurp(folder_ + "/stderr")};
}

Result run_program_to_end(const std::string& name, const std::vector<std::string>& arguments,
                          const std::string& folder) {
  return Program(name, arguments, folder).wait();
}

Result run_in_shell(const std::string& command, const std::string& folder) {
  const std::string out = folder + "/stdout", err = folder + "/stderr";
  const int status = std::system(("{ " + command + "\n} >" + out + " 2>" + err).c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), slurp(out), slurp(err)};
}

}  // namespace depthroute::testing_support
