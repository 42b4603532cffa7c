#include "tests/eval/eval_program.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "data/atomic_path.h"
#include "data/files.h"
#include "tests/support/paths.h"

namespace depthroute {

const char* const kGrid =
    "grids:\n"
    "  - {families: [embedding, older, recent, current], sublayers: [attn, mlp], bands: [early, mid, late],\n"
    "     interventions: [mask, zero]}\n"
    "cells:\n"
    "  - {name: steer, sources: [0], layers: [3], sublayers: [mlp], intervention: bias, value: 2.0}\n";

std::string obeying_permissions() {
  if (geteuid() != 0) return "";
  const std::string without = "setpriv --bounding-set=-dac_override,-dac_read_search ";
  return std::system((without + "true 2>/dev/null").c_str()) == 0 ? without : kNothingObeys;
}

std::string EvalProgram::config_text(const std::string& model, const std::string& rest) const {
  return "output: " + results() + "\nmodel: {from: " + golden_folder(model) + "}\ndata: {shards: [" +
         (folder_ / "val.bin") + "], seq_len: 9, sequences: 7}\nmicro_batch: 3\n" +
         "statistics: {bootstrap: 200}\n" + rest;
}

Ran EvalProgram::run(const std::string& text, const std::string& arguments) {
  return run_shell("", text, arguments);
}

std::string EvalProgram::write_config(const std::string& text) const {
  write_file_atomically(folder_ / "config.yaml", text);
  return folder_ / "config.yaml";
}

Ran EvalProgram::run_shell(const std::string& before, const std::string& text, const std::string& arguments) {
  return testing_support::run_in_shell(
      before + test_paths::bin() + "/depthroute-eval " + write_config(text) + " " + arguments,
      folder_.path());
}

void EvalProgram::expect_nothing_written() const {
  for (const auto& entry : std::filesystem::directory_iterator(folder_.path())) {
    const std::string name = entry.path().filename().string();
    EXPECT_TRUE(name == "val.bin" || name == "config.yaml" || name == "stdout" || name == "stderr") << name;
  }
}

void EvalProgram::expect_refused(const std::string& text, const std::string& part,
                                 const std::string& arguments) {
  const Ran ran = run(text, arguments);
  EXPECT_EQ(ran.status, 2) << text << ran.err;
  EXPECT_NE(ran.err.find(part), std::string::npos) << ran.err;
  EXPECT_EQ(std::count(ran.err.begin(), ran.err.end(), '\n'), 1) << ran.err;
  expect_nothing_written();
}

}  // namespace depthroute
