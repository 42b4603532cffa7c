#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <new>

#include "configs/base/error.h"
#include "configs/cli.h"
#include "configs/scalar.h"
#include "tests/configs/support.h"

namespace depthroute {
namespace {

struct Outcome {
  int status = -1;
  std::string out, err;
  CommandLine line;
  bool ran = false;
};

template <typename Body>
Outcome run(std::vector<std::string> words, Body body) {
  words.insert(words.begin(), "/usr/bin/depthroute-train");
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  Outcome outcome;
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  outcome.status = run_program(static_cast<int>(words.size()), argv.data(), "Trains.", "| the reference |\n",
                               {}, [&](const CommandLine& line) {
                                 outcome.ran = true;
                                 outcome.line = line;
                                 return body();
                               });
  outcome.out = testing::internal::GetCapturedStdout();
  outcome.err = testing::internal::GetCapturedStderr();
  return outcome;
}
Outcome run(std::vector<std::string> words) {
  return run(std::move(words), [] { return 0; });
}

TEST(CommandLine, ReachesTheBody) {
  const Outcome outcome =
      run({"--set", "a.b=1", "my run.yaml", "--set", "c=[1, 2]", "--dry-run", "--set=d=e=f"});
  EXPECT_EQ(outcome.status, 0);
  EXPECT_EQ(outcome.err, "");
  EXPECT_EQ(outcome.line.program, "depthroute-train");
  EXPECT_EQ(outcome.line.config_path, "my run.yaml");
  EXPECT_EQ(outcome.line.overrides, (std::vector<std::string>{"a.b=1", "c=[1, 2]", "d=e=f"}));
  EXPECT_TRUE(outcome.line.dry_run);
  EXPECT_FALSE(outcome.line.print_config);
  EXPECT_EQ(outcome.line.text,
            "/usr/bin/depthroute-train --set a.b=1 'my run.yaml' --set 'c=[1, 2]' --dry-run --set=d=e=f");
  EXPECT_EQ(run({"a.yaml", "--set", "x=-1", "--print-config"}).line.overrides,
            std::vector<std::string>{"x=-1"});
  EXPECT_EQ(run({"a.yaml"}, [] { return kExitInterrupted; }).status, 3);
}

// What a program records is UTF-8 on one line, and means the same to a shell.
TEST(CommandLine, IsRecordedAsTextThatCanBePasted) {
  const std::vector<std::string> words = {
      "caf\xe9's \\.yaml", "--set", "a=caf\xc3\xa9", "--set", "b=1\n2", "--set", "c=it's"};
  const std::string text = run(words).line.text;
  EXPECT_EQ(text.find('\n'), std::string::npos) << text;
  EXPECT_EQ(valid_utf8_prefix(text), text.size()) << text;
  const std::string script = testing::TempDir() + "depthroute_pasted.sh", printed = script + ".out";
  std::ofstream(script) << "printf '%s|'" << text.substr(text.find(' ')) << "\n";
  ASSERT_EQ(std::system(("bash " + script + " >" + printed).c_str()), 0);
  std::string expected;
  for (const std::string& word : words) expected += word + "|";
  EXPECT_EQ(test::slurp(printed), expected) << text;
}

TEST(CommandLine, HelpNeverReachesTheBody) {
  const Outcome help = run({"--help"}), keys = run({"--help-config"}), version = run({"--version"});
  for (const Outcome* outcome : {&help, &keys, &version}) {
    EXPECT_EQ(outcome->status, 0);
    EXPECT_FALSE(outcome->ran);
    EXPECT_EQ(outcome->err, "");
  }
  for (const char* word :
       {"CONFIG", "--set", "key.path=value", "--dry-run", "--print-config", "--help-config", "--version"})
    EXPECT_NE(help.out.find(word), std::string::npos) << word;
  EXPECT_EQ(keys.out, "| the reference |\n");
  EXPECT_EQ(version.out, fmt::format("depthroute-train {} ({})\n", program_version(), program_commit()));
  EXPECT_GE(std::string(program_version()).size(), 5u);
  EXPECT_GE(std::string(program_commit()).size(), 7u);
}

TEST(CommandLine, BadArgumentsAreStatus2) {
  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{
           {}, {"--nonsense", "a.yaml"}, {"a.yaml", "b.yaml"}, {"a.yaml", "--set"}, {"--dry-run"}}) {
    const Outcome outcome = run(words);
    EXPECT_EQ(outcome.status, 2);
    EXPECT_FALSE(outcome.ran);
    EXPECT_EQ(outcome.out, "");
    EXPECT_EQ(outcome.err.rfind("depthroute-train: error: ", 0), 0u) << outcome.err;
    EXPECT_EQ(outcome.err.find("; see --help\n"), outcome.err.size() - 13) << outcome.err;
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
  }
}

TEST(CommandLine, ExceptionsBecomeStatuses) {
  const auto thrown = [](auto error) { return run({"a.yaml"}, [&]() -> int { throw error; }); };
  const Outcome input = thrown(ConfigError("a.yaml:3: no\nway"));
  EXPECT_EQ(input.status, 2);
  EXPECT_EQ(input.err, "depthroute-train: error: a.yaml:3: no\\x0away\n");
  EXPECT_EQ(thrown(DataError("x")).status, 2);
  const Outcome system = thrown(SystemError("disk full"));
  EXPECT_EQ(system.status, 1);
  EXPECT_EQ(system.err, "depthroute-train: error: disk full\n");
  EXPECT_EQ(thrown(TrainingError("x")).status, 1);
  const Outcome stopped = thrown(Interrupted("stopped"));
  EXPECT_EQ(stopped.status, 3);
  EXPECT_EQ(stopped.err, "depthroute-train: stopped\n");
  EXPECT_EQ(thrown(std::bad_alloc()).err, "depthroute-train: error: out of memory\n");
  EXPECT_EQ(thrown(42).status, 1);
}

}  // namespace
}  // namespace depthroute
