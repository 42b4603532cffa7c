// Runs depthroute-tokenize, and looks at what it has left.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <map>

#include "data/files.h"
#include "data/tokens/token_stream.h"
#include "tests/support/paths.h"
#include "tests/support/program.h"
#include "tests/support/temp_folder.h"

namespace depthroute {

using testing_support::Result;

inline std::string all_bytes(size_t size, size_t step = 7) {
  std::string text(size, 0);
  for (size_t i = 0; i < size; ++i) text[i] = static_cast<char>(i * step + i / 256);
  return text;
}

inline int status_of(int wait_status) { return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : -1; }

/// Every name below a folder with what it holds: a file's mode and hash, where a link points.
inline std::map<std::string, std::string> tree_of(const std::string& folder) {
  std::map<std::string, std::string> tree;
  if (!std::filesystem::exists(folder)) return {{"", "absent"}};
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    const std::string path = entry.path();
    struct stat status;
    ::lstat(path.c_str(), &status);
    std::string& content = tree[path.substr(folder.size())] = fmt::format("{:o}", status.st_mode);
    if (S_ISREG(status.st_mode)) content += " " + hash_file(path);
    if (S_ISLNK(status.st_mode)) content += " " + std::filesystem::read_symlink(path).string();
  }
  return tree;
}

class TokenizeTest : public testing::Test {
 protected:
  /// In a shell, `before` in front of the program: a pipe into it, limits, another folder.
  Result run(const std::string& arguments, const std::string& before = "") const {
    // With something before it, standard input is the pipe's.
    return testing_support::run_in_shell(
        fmt::format("{} {} {} {}", before, program_, arguments, before.empty() ? "</dev/null" : ""),
        logs_.path());
  }

  static constexpr int kNowhere = -1, kClosed = -2;

  /// Goes on by itself. Standard input is /dev/null, standard output a descriptor or one of the above.
  pid_t start(std::vector<std::string> arguments, int output = kNowhere, bool traced = false) const {
    std::vector<char*> argv{const_cast<char*>(program_.c_str())};
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    const pid_t child = ::fork();
    if (child != 0) return child;
    ::dup2(::open("/dev/null", O_RDONLY), STDIN_FILENO);
    ::dup2(::open((logs_ / "started").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666), STDERR_FILENO);
    ::dup2(output >= 0 ? output : ::open("/dev/null", O_WRONLY), STDOUT_FILENO);
    if (output == kClosed) ::close(STDOUT_FILENO);
    if (traced) {
      ::setenv("ASAN_OPTIONS", "detect_leaks=0", 1);  // it cannot look for leaks then
      if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) ::_exit(77);
    }
    ::execv(program_.c_str(), argv.data());
    ::_exit(127);
  }
  Result finish(pid_t child) const {
    int status = 0;
    ::waitpid(child, &status, 0);
    return {status_of(status), "", read_file(logs_ / "started")};
  }

  static void expect_one_line(const Result& result, const std::string& part) {
    EXPECT_TRUE(has(result.err, part)) << "\"" << part << "\" is not in: " << result.err;
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
  }
  std::string tokens_of(const std::vector<std::string>& names, int64_t vocab_size = 256) const {
    std::vector<std::string> paths;
    for (const std::string& name : names) paths.push_back(out_ + "/" + name);
    const TokenStream stream(paths, vocab_size);
    std::vector<int32_t> tokens(static_cast<size_t>(stream.num_tokens()));
    stream.read(0, tokens);
    std::string text;
    for (const int32_t token : tokens)
      text += token == 256 ? std::string("<|end|>") : std::string(1, static_cast<char>(token));
    return text;
  }
  std::vector<std::string> outputs() const { return list_folder(out_); }

  const TempFolder folder_, logs_;
  const std::string program_ = test_paths::bin() + "/depthroute-tokenize";
  const std::string text_ = folder_ / "text.txt", out_ = folder_ / "made/shards";
};

}  // namespace depthroute
