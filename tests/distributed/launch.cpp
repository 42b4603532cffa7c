#include "tests/distributed/launch.h"

#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "tests/support/paths.h"

extern char** environ;

namespace depthroute::testing_support {

namespace {

const std::string kMpirun = DEPTHROUTE_MPIRUN;

std::string slurp(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

/// Open MPI on one machine with few cores, from the file that the scripts read as well.
std::vector<std::string> settings_of_jobs() {
  const std::string path = std::string(DEPTHROUTE_SOURCE_DIR) + "/tools/mpi_one_machine.env";
  std::vector<std::string> result = {"OMP_NUM_THREADS=1", "OMP_WAIT_POLICY=passive",
                                     // Under AddressSanitizer: what Open MPI's plugins keep until the end is
                                     // not ours, and has no names to suppress it by.
                                     "ASAN_OPTIONS=detect_leaks=0"};
  std::istringstream text(slurp(path));
  for (std::string line; std::getline(text, line);)
    if (!line.empty() && line.front() != '#') result.push_back(line);
  EXPECT_GT(result.size(), 3u) << path << " says nothing";
  return result;
}

std::string name_of(const std::string& setting) { return setting.substr(0, setting.find('=') + 1); }

/// Ours, without what another launcher may have left, and with what is to be set; the last of a name counts.
std::vector<std::string> environment_of_job(const std::vector<std::string>& more) {
  std::vector<std::string> settings = settings_of_jobs();
  settings.insert(settings.end(), more.begin(), more.end());
  std::vector<std::string> result;
  for (char** entry = environ; *entry; ++entry) {
    const std::string text = *entry;
    const auto starts = [&](const char* prefix) { return text.rfind(prefix, 0) == 0; };
    if (!starts("SLURM_") && !starts("PMI") && !starts("OMPI_") && !starts("PRTE_")) result.push_back(text);
  }
  for (const std::string& setting : settings) {
    std::erase_if(result, [&](const std::string& text) { return text.rfind(name_of(setting), 0) == 0; });
    result.push_back(setting);
  }
  return result;
}

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> result;
  for (std::string& text : strings) result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

std::vector<pid_t> children_of(pid_t parent) {
  std::vector<pid_t> result;
  const std::string tasks = "/proc/" + std::to_string(parent) + "/task";
  DIR* folder = opendir(tasks.c_str());
  if (!folder) return result;
  while (const dirent* entry = readdir(folder)) {
    std::ifstream list(tasks + "/" + entry->d_name + "/children");
    for (pid_t child; list >> child;) result.push_back(child);
  }
  closedir(folder);
  return result;
}

/// The rank of a process that runs `program`, or -1: mpirun's children are mpirun at first.
int rank_of(pid_t pid, const std::string& program) {
  const std::string folder = "/proc/" + std::to_string(pid);
  char target[4096];
  const ssize_t length = readlink((folder + "/exe").c_str(), target, sizeof(target));
  if (length <= 0 || std::string(target, static_cast<size_t>(length)) != program) return -1;
  std::istringstream environment(slurp(folder + "/environ"));
  constexpr const char* kName = "OMPI_COMM_WORLD_RANK=";
  for (std::string entry; std::getline(environment, entry, '\0');)
    if (entry.rfind(kName, 0) == 0) return std::atoi(entry.c_str() + std::string(kName).size());
  return -1;
}

void pause_between_looks() { std::this_thread::sleep_for(std::chrono::milliseconds(2)); }

}  // namespace

bool have_mpi() { return !kMpirun.empty() && access(kMpirun.c_str(), X_OK) == 0; }

MpiJob::MpiJob(int processes, const std::string& program, const std::vector<std::string>& arguments,
               const std::string& folder, const std::vector<std::string>& environment)
    : processes_(processes), folder_(folder) {
  const std::string path = test_paths::bin() + "/" + program;
  char* real = realpath(path.c_str(), nullptr);
  EXPECT_NE(real, nullptr) << path;
  program_ = real ? real : path;
  std::free(real);
  std::vector<std::string> command = {kMpirun, "-n", std::to_string(processes), program_};
  command.insert(command.end(), arguments.begin(), arguments.end());
  session_ = "/tmp/mpi.XXXXXX";  // short: there are sockets in it
  EXPECT_NE(mkdtemp(session_.data()), nullptr) << session_;
  std::vector<std::string> settings = environment;
  settings.push_back("TMPDIR=" + session_);
  std::vector<std::string> variables = environment_of_job(settings);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  constexpr int kFlags = O_WRONLY | O_CREAT | O_TRUNC;
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, (folder + "/stdout").c_str(), kFlags, 0644);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, (folder + "/stderr").c_str(), kFlags, 0644);
  const int failure = posix_spawn(&mpirun_, kMpirun.c_str(), &actions, nullptr, pointers(command).data(),
                                  pointers(variables).data());
  posix_spawn_file_actions_destroy(&actions);
  if (failure != 0) mpirun_ = -1;
  EXPECT_EQ(failure, 0) << kMpirun;
}

MpiJob::~MpiJob() {
  if (mpirun_ > 0) end();
  std::error_code none;
  std::filesystem::remove_all(session_, none);
}

/// mpirun first: told politely it ends its processes and removes its files.
void MpiJob::end() {
  constexpr int kSeconds = 5;
  const std::vector<pid_t> children = children_of(mpirun_);
  kill(mpirun_, SIGTERM);
  for (int look = 0; look < kSeconds * 500 && running(); ++look) pause_between_looks();
  if (!running()) return;
  for (const pid_t child : children) kill(child, SIGKILL);
  kill(mpirun_, SIGKILL);
  waitpid(mpirun_, &status_, 0);
  mpirun_ = -1;
}

bool MpiJob::running() {
  if (mpirun_ > 0 && waitpid(mpirun_, &status_, WNOHANG) == mpirun_) mpirun_ = -1;
  return mpirun_ > 0;
}

std::vector<pid_t> MpiJob::ranks() {
  while (ranks_.empty() && running()) {
    std::vector<pid_t> found(static_cast<size_t>(processes_), 0);
    for (const pid_t child : children_of(mpirun_))
      if (const int rank = rank_of(child, program_); rank >= 0 && rank < processes_)
        found[static_cast<size_t>(rank)] = child;
    if (std::count(found.begin(), found.end(), 0) == 0) ranks_ = found;
    if (ranks_.empty()) pause_between_looks();
  }
  return ranks_;
}

void MpiJob::send(int rank, int signal) {
  if (!running()) return;
  if (rank < 0) {
    kill(mpirun_, signal);
    return;
  }
  const std::vector<pid_t> all = ranks();
  if (!all.empty()) kill(all.at(static_cast<size_t>(rank)), signal);
}

bool MpiJob::wait_for_output(const std::string& text) {
  for (;;) {
    const bool may_write_more = running();
    if (slurp(folder_ + "/stdout").find(text) != std::string::npos) return true;
    if (!may_write_more) return false;
    pause_between_looks();
  }
}

Result MpiJob::wait(double limit) {
  if (running()) {
    pollfd process = {static_cast<int>(syscall(SYS_pidfd_open, mpirun_, 0)), POLLIN, 0};
    const int ended = poll(&process, 1, static_cast<int>(limit * 1000));
    close(process.fd);
    EXPECT_EQ(ended, 1) << "the job did not end in " << limit << " s";
    if (ended != 1) end();
    if (mpirun_ > 0) waitpid(mpirun_, &status_, 0);
    mpirun_ = -1;
  }
  return {WIFEXITED(status_) ? WEXITSTATUS(status_) : 128 + WTERMSIG(status_), slurp(folder_ + "/stdout"),
          slurp(folder_ + "/stderr")};
}

Result run_under_mpi(int processes, const std::string& program, const std::vector<std::string>& arguments,
                     const std::string& folder, const std::vector<std::string>& environment) {
  return MpiJob(processes, program, arguments, folder, environment).wait();
}

bool ends(pid_t pid) {
  constexpr int kLooks = 5000;
  for (int look = 0; look < kLooks; ++look) {
    const std::string state = slurp("/proc/" + std::to_string(pid) + "/stat");
    const size_t name_ends = state.rfind(") ");
    if (name_ends == std::string::npos || state[name_ends + 2] == 'Z') return true;
    pause_between_looks();
  }
  return false;
}

std::vector<std::string> errors_of(const Result& result) {
  constexpr const char* kMark = ": error: ";
  std::vector<std::string> lines;
  std::istringstream text(result.err);
  for (std::string line; std::getline(text, line);)
    if (const size_t at = line.find(kMark); at != std::string::npos && line.find(' ') > at)
      lines.push_back(line.substr(at + std::string(kMark).size()));
  return lines;
}

}  // namespace depthroute::testing_support
