// depthroute-tokenize through its command line: tokens, arguments, streams and signals. How a set replaces an
// earlier one: tokenize_publish_test.cpp.
#include <sched.h>
#include <signal.h>

#include <cmath>

#include "tests/tools/tokenize_fixture.h"

namespace depthroute {
namespace {

TEST_F(TokenizeTest, TrainingThenValidationIsTheText) {
  const std::string text = all_bytes(3'000'001);
  write_raw(text_, text);
  const Result result = run(text_ + " --output " + out_);
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(outputs(), (std::vector<std::string>{"train.bin", "train.shards.json", "val.bin"}));
  EXPECT_EQ(tokens_of({"train.bin", "val.bin"}), text);
  EXPECT_EQ(tokens_of({"val.bin"}).size(), 30000u);
  EXPECT_TRUE(
      has(result.out, "tokens: 3000001 (2970001 for training, 30000 for validation), vocabulary 256"));
}

TEST_F(TokenizeTest, ShardsAreCutWhereAskedAndNamed) {
  const std::string text = all_bytes(1000);
  write_raw(text_, text);
  const Result result =
      run(text_ + " --output " + out_ + " --name part --shard-tokens 300 --val-fraction 0.1");
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(outputs(), (std::vector<std::string>{"part.shards.json", "part_000.bin", "part_001.bin",
                                                 "part_002.bin", "val.bin"}));
  EXPECT_EQ(tokens_of({"part_000.bin"}), text.substr(0, 300));
  EXPECT_EQ(tokens_of({"part_000.bin", "part_001.bin", "part_002.bin", "val.bin"}), text);
  EXPECT_EQ(tokens_of({"val.bin"}), text.substr(900));
}

TEST_F(TokenizeTest, StandardInputAndPipesGiveTheSame) {
  write_raw(text_, all_bytes(2'500'000));
  ASSERT_EQ(run(text_ + " --output " + out_).status, 0);
  const std::string train = hash_file(out_ + "/train.bin"), val = hash_file(out_ + "/val.bin");
  const Result result = run("- --overwrite --output " + out_, "cat " + text_ + " |");
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(hash_file(out_ + "/train.bin"), train);
  EXPECT_EQ(hash_file(out_ + "/val.bin"), val);
  EXPECT_EQ(outputs(), (std::vector<std::string>{"train.bin", "train.shards.json", "val.bin"}));
}

TEST_F(TokenizeTest, SeparatorStandsBetweenFiles) {
  write_raw(text_, "first");
  write_raw(folder_ / "b", "second");
  const Result result =
      run(text_ + " " + (folder_ / "b") + " --end-of-text --val-fraction 0 --output " + out_);
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(tokens_of({"train.bin"}, 257), "first<|end|>second");
  EXPECT_TRUE(has(result.out, "tokens: 12 (12 for training, 0 for validation), vocabulary 257"));
}

TEST_F(TokenizeTest, EntropyIsThatOfTheBytes) {
  write_raw(text_, "aaaabbcd");  // 1/2, 1/4, 1/8, 1/8: 1.75 bits
  const Result result = run(text_ + " --val-fraction 0.5 --output " + out_);
  const size_t at = result.out.find("unigram entropy: ");
  ASSERT_NE(at, std::string::npos) << result.out << result.err;
  EXPECT_NEAR(std::stod(result.out.substr(at + 17)), 1.75 * std::log(2.0), 5e-5);
  EXPECT_TRUE(has(result.out, " nats/token\n"));
}

TEST_F(TokenizeTest, BadArgumentsEndWithStatus2OneLineAndNothingWritten) {
  write_raw(text_, "some text");
  write_raw(folder_ / "empty", "");
  write_raw(folder_ / "long", std::string(300'000, 'x'));
  const std::pair<std::string, std::string> cases[] = {
      {"", "input is required"},
      {text_, "--output is required"},
      {text_ + " --output " + out_ + " --bogus", "--bogus"},
      {text_ + " --output " + out_ + " --val-fraction 0.9", "--val-fraction 0.9: must be from 0 to 0.5"},
      {text_ + " --output " + out_ + " --val-fraction nan", "--val-fraction nan: must be from 0 to 0.5"},
      {text_ + " --output " + out_ + " --val-fraction=-nan", "--val-fraction -nan: must be from 0 to 0.5"},
      {text_ + " --output " + out_ + " --val-fraction inf", "--val-fraction inf"},
      {text_ + " --output " + out_ + " --val-fraction=-0.1", "--val-fraction -0.1"},
      {text_ + " --output " + out_ + " --shard-tokens 0", "--shard-tokens"},
      {text_ + " --output " + out_ + " --shard-tokens 3000000000", "--shard-tokens"},
      {text_ + " --output " + out_ + " --name val", "--name val"},
      {text_ + " --output " + out_ + " --name ../x", "--name ../x"},
      {text_ + " --output " + out_ + " --name a.tmp-1", "--name a.tmp-1: holds .tmp-"},
      {text_ + " --output " + out_ + " --name $(printf '\\377')", "--name is not valid UTF-8"},
      {text_ + " --output " + out_ + " --name \"$(printf 'a\\nb')\"", "holds a control character"},
      {text_ + " --output " + out_ + " --name " + std::string(201, 'n'), "is longer than 200 bytes"},
      {text_ + " --output ''", "--output is empty"},
      {folder_ / "long" + " --output " + out_ + " --shard-tokens 1", "would make 297000 shards"},
      {text_ + " --output " + out_, "9 tokens are too few for --val-fraction 0.01"},
      {(folder_ / "absent") + " --output " + out_, "absent: cannot open: No such file"},
      {(folder_ / "empty") + " --output " + out_, "empty: empty; there is nothing to tokenise"},
      {folder_.path() + " --output " + out_, "is a folder"},
  };
  for (const auto& [arguments, part] : cases) {
    const Result result = run(arguments);
    EXPECT_EQ(result.status, 2) << arguments << "\n" << result.err;
    expect_one_line(result, part);
    EXPECT_FALSE(std::filesystem::exists(folder_ / "made")) << arguments;
  }
}

TEST_F(TokenizeTest, FullDiskLeavesNothing) {
  write_raw(text_, all_bytes(3'000'000));
  std::filesystem::create_directories(out_);
  const Result result =
      run(text_ + " --output " + out_, "trap '' XFSZ; ulimit -f 1000; ");  // blocks of 512 or 1024
  EXPECT_EQ(result.status, 1);
  EXPECT_TRUE(has(result.err, "cannot write")) << result.err;
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

// A FIFO is read to its end, and the one behind it is waited for, but not with a signal pending.
TEST_F(TokenizeTest, WaitingForAFifosWriterEndsWithASignal) {
  const std::string first = folder_ / "first", second = folder_ / "second";
  ASSERT_EQ(::mkfifo(first.c_str(), 0600), 0);
  ASSERT_EQ(::mkfifo(second.c_str(), 0600), 0);
  for (const int number : {SIGTERM, SIGINT, SIGHUP}) {
    const pid_t child = start({first, second, "--output", out_});
    std::ofstream(first) << "some text";  // opened once the program has opened it
    const auto has_opened_second = [&] {
      std::error_code gone;
      for (const auto& entry : std::filesystem::directory_iterator(fmt::format("/proc/{}/fd", child), gone))
        if (std::filesystem::read_symlink(entry, gone) == second) return true;
      return false;
    };
    while (!has_opened_second()) ::sched_yield();
    ::kill(child, number);
    const Result result = finish(child);
    EXPECT_EQ(result.status, 1) << number;
    expect_one_line(result, "interrupted; nothing was written");
    EXPECT_FALSE(std::filesystem::exists(folder_ / "made"));
  }
}

// What is printed last may find nobody to read it; by then the set is in place.
TEST_F(TokenizeTest, OutputThatCannotBePrintedEndsWithStatus1AndTheSetComplete) {
  const std::string text = all_bytes(3000);
  write_raw(text_, text);
  int nobody_reads[2];
  ASSERT_EQ(::pipe2(nobody_reads, O_CLOEXEC), 0);
  ::close(nobody_reads[0]);
  const int full = ::open("/dev/full", O_WRONLY | O_CLOEXEC);
  for (const int output : {nobody_reads[1], full, kClosed}) {
    const Result result = finish(start({text_, "--output", out_, "--overwrite"}, output));
    EXPECT_EQ(result.status, 1);
    expect_one_line(result, "is complete, but its list cannot be printed: ");
    EXPECT_EQ(tokens_of({"train.bin", "val.bin"}), text);
    std::filesystem::remove_all(out_);
  }
  ::close(nobody_reads[1]);
  ::close(full);
}

TEST_F(TokenizeTest, ClosedStreamsAreNotTakenForFiles) {
  const std::string text = all_bytes(3000);
  write_raw(text_, text);
  const std::string command = program_ + " " + text_ + " --output " + out_;
  EXPECT_EQ(status_of(std::system((command + " <&- >&- 2>&-").c_str())), 1);
  EXPECT_EQ(tokens_of({"train.bin", "val.bin"}), text);
  EXPECT_EQ(status_of(std::system((command + " <&- >&- 2>&-").c_str())), 2);
  EXPECT_EQ(status_of(std::system((command + " --overwrite >/dev/null 2>&-").c_str())), 0);
  EXPECT_EQ(
      status_of(std::system((program_ + " - --output " + out_ + " --overwrite <&- 2>/dev/null").c_str())), 2);
  EXPECT_EQ(tokens_of({"train.bin", "val.bin"}), text);
}

TEST_F(TokenizeTest, HelpAndVersionEndWithStatus0) {
  EXPECT_EQ(run("--help").status, 0);
  EXPECT_TRUE(has(run("--help").out, "--val-fraction"));
  EXPECT_EQ(run("--version").status, 0);
}

}  // namespace
}  // namespace depthroute
