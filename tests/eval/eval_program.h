// depthroute-eval as a user runs it, in a folder of its own with 100 tokens.
#pragma once

#include <string>
#include <vector>

#include "tests/eval/eval_fixture.h"
#include "tests/support/program.h"

namespace depthroute {

using Ran = testing_support::Result;

/// 49 cells: every family at every band and sublayer, masked and zeroed, and one that steers.
extern const char* const kGrid;

/// What to put in front of a program so that permissions hold for it, which root is above; kNothingObeys if
/// there is nothing.
inline constexpr const char* kNothingObeys = "false ";
std::string obeying_permissions();

class EvalProgram : public testing::Test {
 protected:
  EvalProgram() { write_shard(folder_ / "val.bin", random_tokens(100)); }

  /// 7 windows of 9 tokens in batches of 3, into results().
  std::string config_text(const std::string& model, const std::string& rest = "") const;
  Ran run(const std::string& text, const std::string& arguments = "");
  /// `before`: shell commands in front of the program.
  Ran run_shell(const std::string& before, const std::string& text, const std::string& arguments);
  std::string write_config(const std::string& text) const;  // its path
  std::string results() const { return folder_ / "results.h5"; }
  /// Nothing but what the test itself made.
  void expect_nothing_written() const;
  void expect_refused(const std::string& text, const std::string& part, const std::string& arguments = "");

  TempFolder folder_;
};

}  // namespace depthroute
