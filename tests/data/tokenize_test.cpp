// depthroute-tokenize through its command line.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>

#include "data/files.h"
#include "data/token_stream.h"
#include "tests/data/temp_folder.h"
#include "tests/paths.h"

namespace depthroute {
namespace {

struct Result {
  int status;
  std::string output, errors;
};

class TokenizeTest : public testing::Test {
 protected:
  Result run(const std::string& arguments, const std::string& before = "") const {
    const std::string command = before + " " + test_paths::bin() + "/depthroute-tokenize " + arguments +
                                " >" + (logs_ / "out") + " 2>" + (logs_ / "err") + " </dev/null";
    // With something before it, standard input is the pipe's.
    const int status =
        std::system((before.empty() ? command : command.substr(0, command.rfind(" </dev"))).c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read_file(logs_ / "out"), read_file(logs_ / "err")};
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
  std::vector<std::string> outputs() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(out_))
      names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    return names;
  }

  const TempFolder folder_, logs_;
  const std::string text_ = folder_ / "text.txt", out_ = folder_ / "made/shards";
};

std::string all_bytes(size_t size) {
  std::string text(size, 0);
  for (size_t i = 0; i < size; ++i) text[i] = static_cast<char>(i * 7 + i / 256);
  return text;
}

TEST_F(TokenizeTest, TrainingThenValidationIsTheText) {
  const std::string text = all_bytes(3'000'001);
  write_raw(text_, text);
  const Result result = run(text_ + " --output " + out_);
  ASSERT_EQ(result.status, 0) << result.errors;
  EXPECT_EQ(outputs(), (std::vector<std::string>{"train.bin", "val.bin"}));
  EXPECT_EQ(tokens_of({"train.bin", "val.bin"}), text);
  EXPECT_EQ(tokens_of({"val.bin"}).size(), 30000u);
  EXPECT_TRUE(
      has(result.output, "tokens: 3000001 (2970001 for training, 30000 for validation), vocabulary 256"));
}

TEST_F(TokenizeTest, ShardsAreCutWhereAskedAndNamed) {
  const std::string text = all_bytes(1000);
  write_raw(text_, text);
  const Result result =
      run(text_ + " --output " + out_ + " --name part --shard-tokens 300 --val-fraction 0.1");
  ASSERT_EQ(result.status, 0) << result.errors;
  EXPECT_EQ(outputs(), (std::vector<std::string>{"part_000.bin", "part_001.bin", "part_002.bin", "val.bin"}));
  EXPECT_EQ(tokens_of({"part_000.bin"}), text.substr(0, 300));
  EXPECT_EQ(tokens_of({"part_000.bin", "part_001.bin", "part_002.bin", "val.bin"}), text);
  EXPECT_EQ(tokens_of({"val.bin"}), text.substr(900));
}

TEST_F(TokenizeTest, StandardInputAndPipesGiveTheSame) {
  write_raw(text_, all_bytes(2'500'000));
  ASSERT_EQ(run(text_ + " --output " + out_).status, 0);
  const std::string train = hash_file(out_ + "/train.bin"), val = hash_file(out_ + "/val.bin");
  const Result result = run("- --overwrite --output " + out_, "cat " + text_ + " |");
  ASSERT_EQ(result.status, 0) << result.errors;
  EXPECT_EQ(hash_file(out_ + "/train.bin"), train);
  EXPECT_EQ(hash_file(out_ + "/val.bin"), val);
  EXPECT_EQ(outputs(), (std::vector<std::string>{"train.bin", "val.bin"}));
}

TEST_F(TokenizeTest, SeparatorStandsBetweenFiles) {
  write_raw(text_, "first");
  write_raw(folder_ / "b", "second");
  const Result result =
      run(text_ + " " + (folder_ / "b") + " --end-of-text --val-fraction 0 --output " + out_);
  ASSERT_EQ(result.status, 0) << result.errors;
  EXPECT_EQ(tokens_of({"train.bin"}, 257), "first<|end|>second");
  EXPECT_TRUE(has(result.output, "tokens: 12 (12 for training, 0 for validation), vocabulary 257"));
}

TEST_F(TokenizeTest, EntropyIsThatOfTheBytes) {
  write_raw(text_, "aaaabbcd");  // 1/2, 1/4, 1/8, 1/8: 1.75 bits
  const Result result = run(text_ + " --val-fraction 0.5 --output " + out_);
  const size_t at = result.output.find("unigram entropy: ");
  ASSERT_NE(at, std::string::npos) << result.output << result.errors;
  EXPECT_NEAR(std::stod(result.output.substr(at + 17)), 1.75 * std::log(2.0), 5e-5);
  EXPECT_TRUE(has(result.output, " nats/token\n"));
}

TEST_F(TokenizeTest, EarlierShardsAreKeptUnlessToldOtherwise) {
  write_raw(text_, all_bytes(1000));
  ASSERT_EQ(run(text_ + " --shard-tokens 100 --output " + out_).status, 0);
  const size_t before = outputs().size();
  const Result refused = run(text_ + " --output " + out_);
  EXPECT_EQ(refused.status, 2);
  EXPECT_TRUE(has(refused.errors, "exists already")) << refused.errors;
  EXPECT_EQ(outputs().size(), before);
  ASSERT_EQ(run(text_ + " --overwrite --output " + out_).status, 0);
  EXPECT_EQ(outputs(), (std::vector<std::string>{"train.bin", "val.bin"}));
}

TEST_F(TokenizeTest, BadArgumentsEndWithStatus2OneLineAndNothingWritten) {
  write_raw(text_, "some text");
  write_raw(folder_ / "empty", "");
  const std::pair<std::string, std::string> cases[] = {
      {"", "input is required"},
      {text_, "--output is required"},
      {text_ + " --output " + out_ + " --bogus", "--bogus"},
      {text_ + " --output " + out_ + " --val-fraction 0.9", "--val-fraction"},
      {text_ + " --output " + out_ + " --shard-tokens 0", "--shard-tokens"},
      {text_ + " --output " + out_ + " --shard-tokens 3000000000", "--shard-tokens"},
      {text_ + " --output " + out_ + " --name val", "--name val"},
      {text_ + " --output " + out_ + " --name ../x", "--name ../x"},
      {text_ + " --output " + out_, "9 tokens are too few for --val-fraction 0.01"},
      {(folder_ / "absent") + " --output " + out_, "absent: cannot open: No such file"},
      {(folder_ / "empty") + " --output " + out_, "empty: empty; there is nothing to tokenise"},
      {folder_.path() + " --output " + out_, "is a folder"},
  };
  for (const auto& [arguments, part] : cases) {
    const Result result = run(arguments);
    EXPECT_EQ(result.status, 2) << arguments << "\n" << result.errors;
    EXPECT_TRUE(has(result.errors, part)) << arguments << "\n" << result.errors;
    EXPECT_EQ(std::count(result.errors.begin(), result.errors.end(), '\n'), 1) << result.errors;
    EXPECT_FALSE(std::filesystem::exists(out_)) << arguments;
  }
}

TEST_F(TokenizeTest, FullDiskLeavesNothing) {
  write_raw(text_, all_bytes(3'000'000));
  std::filesystem::create_directories(out_);
  const Result result =
      run(text_ + " --output " + out_, "trap '' XFSZ; ulimit -f 1000; ");  // blocks of 512 or 1024
  EXPECT_EQ(result.status, 1);
  EXPECT_TRUE(has(result.errors, "cannot write")) << result.errors;
  EXPECT_TRUE(outputs().empty());
}

TEST_F(TokenizeTest, InterruptionLeavesNothing) {
  int pipe_ends[2];
  ASSERT_EQ(::pipe(pipe_ends), 0);
  const std::string program = test_paths::bin() + "/depthroute-tokenize";
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(pipe_ends[0], STDIN_FILENO);
    ::close(pipe_ends[1]);
    ::execl(program.c_str(), "depthroute-tokenize", "-", "--output", (folder_ / "o").c_str(), nullptr);
    ::_exit(127);
  }
  ::close(pipe_ends[0]);
  // A pipe's worth and more: once all of it is taken, the program has its signal handlers and is spooling.
  const std::string text = all_bytes(1 << 20);
  ASSERT_EQ(::write(pipe_ends[1], text.data(), text.size()), static_cast<ssize_t>(text.size()));
  ::kill(child, SIGTERM);
  int status = 0;
  ::waitpid(child, &status, 0);
  ::close(pipe_ends[1]);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 1);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "o"));
}

TEST_F(TokenizeTest, HelpAndVersionEndWithStatus0) {
  EXPECT_EQ(run("--help").status, 0);
  EXPECT_TRUE(has(run("--help").output, "--val-fraction"));
  EXPECT_EQ(run("--version").status, 0);
}

}  // namespace
}  // namespace depthroute
