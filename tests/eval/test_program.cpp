// depthroute-eval as a user runs it: results that h5py reads, equal runs with equal bytes, refusals with
// status 2 that write nothing.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "data/files.h"
#include "eval/results/hdf5.h"
#include "tests/eval/eval_program.h"
#include "tests/support/paths.h"

namespace depthroute {
namespace {

TEST_F(EvalProgram, MeasuresEveryCell) {
  const Ran ran = run(config_text("cumulative", kGrid));
  ASSERT_EQ(ran.status, 0) << ran.err;
  EXPECT_NE(ran.out.find("mask/embedding/attn/early"), std::string::npos);
  EXPECT_NE(ran.out.find("not run"), std::string::npos);
  const Hdf5Reader file(results());
  const auto names = file.strings("/cell/cell"), status = file.strings("/cell/status");
  const auto effect = file.doubles("/cell/delta_nll"), low = file.doubles("/cell/delta_nll_low");
  const auto high = file.doubles("/cell/delta_nll_high"), mass = file.doubles("/cell/mass");
  const auto sums = file.doubles("/cell/delta_nll_by_segment");
  const auto ablated = file.integers("/cell/sites_ablated"), plan = file.integers("/plan/sources");
  ASSERT_EQ(names.size(), 49u);
  EXPECT_EQ(file.shape("/plan/sources"), (std::vector<int64_t>{49, 12, 4}));
  for (size_t i = 0; i < names.size(); ++i) {
    int64_t touched_sites = 0;
    for (size_t site = 0; site < 12; ++site) {
      bool touched = false;
      for (size_t j = 0; j < 4; ++j) touched = touched || plan[(i * 12 + site) * 4 + j] == 1;
      touched_sites += touched;
    }
    EXPECT_EQ(touched_sites, ablated[i]) << names[i];
    EXPECT_EQ(status[i] == "not_run", ablated[i] == 0) << names[i];
    EXPECT_EQ(std::isnan(effect[i]), ablated[i] == 0) << names[i];
    EXPECT_EQ(std::isnan(mass[i]), ablated[i] == 0) << names[i];
    if (ablated[i] == 0) continue;
    double sum = 0;
    for (size_t s = 0; s < 7; ++s) sum += sums[i * 7 + s];
    EXPECT_NEAR(effect[i], sum / 63, 1e-12) << names[i];
    EXPECT_LE(low[i], effect[i]) << names[i];
    EXPECT_GE(high[i], effect[i]) << names[i];
  }
  EXPECT_EQ(file.integer_attribute("/", "tokens_evaluated"), 63);
  EXPECT_EQ(file.string_attribute("/known_answer", "parameters_checksum_before"),
            file.string_attribute("/known_answer", "parameters_checksum_after"));
  EXPECT_EQ(file.doubles("/known_answer/largest_change")[0], 0.0);
  const auto eps = file.doubles("/cell/eps_sensitivity");
  EXPECT_NEAR(eps[0], effect[0] - effect[1], 1e-12);  // mask and zero stand side by side
}

TEST_F(EvalProgram, EqualRunsAreEqualBytesButForTheTime) {
  const std::string text = config_text("kimi", std::string(kGrid) + "routing: {weights: all}\n");
  std::vector<std::string> bytes;
  for (int i = 0; i < 2; ++i) {
    const Ran ran = run(text);  // the second replaces the first: it is a results file of ours
    ASSERT_EQ(ran.status, 0) << ran.err;
    const std::string created = Hdf5Reader(results()).string_attribute("/", "created");
    bytes.push_back(read_file(results()));
    const size_t place = bytes.back().find(created);
    ASSERT_NE(place, std::string::npos);
    bytes.back().replace(place, created.size(), created.size(), '-');
    std::filesystem::remove_all(results() + ".units");  // else nothing is measured
  }
  EXPECT_TRUE(bytes[0] == bytes[1]);
}

TEST_F(EvalProgram, AWrappedModelAgreesWithItsFormula) {
  const std::string wrap = "--set model.wrap.recency_bias=2.5 --set model.wrap.num_blocks=3";
  const Ran ran = run(config_text("additive", kGrid), wrap);
  ASSERT_EQ(ran.status, 0) << ran.err;
  EXPECT_NE(ran.out.find("wrapper:"), std::string::npos) << ran.out;
  const Hdf5Reader file(results());
  EXPECT_EQ(file.integer_attribute("/", "wrapped"), 1);
  const auto known = file.strings("/known_answer/known_answer");
  const auto schedule = std::find(known.begin(), known.end(), "schedule") - known.begin();
  ASSERT_LT(schedule, static_cast<ptrdiff_t>(known.size()));
  EXPECT_LT(file.doubles("/known_answer/largest_change")[schedule], 1e-5);
  for (double std : file.doubles("/routing/std")) EXPECT_TRUE(std::isnan(std) || std == 0.0);
}

TEST_F(EvalProgram, APlainModelHasALossAndNoRouting) {
  const Ran ran = run(config_text("additive"));
  ASSERT_EQ(ran.status, 0) << ran.err;
  const Hdf5Reader file(results());
  EXPECT_FALSE(file.has("/routing/mean"));
  EXPECT_FALSE(file.has("/cell"));
  EXPECT_EQ(file.doubles("/known_answer/largest_change"), (std::vector<double>{0, 0}));
}

TEST_F(EvalProgram, DryRunPlansAndWritesNothing) {
  const Ran ran = run(config_text("reset", kGrid), "--dry-run");
  ASSERT_EQ(ran.status, 0) << ran.err;
  for (const char* part : {"Memory", "parameters", "total", "Cost", "zero/recent/mlp/late", "layers.4.mlp"})
    EXPECT_NE(ran.out.find(part), std::string::npos) << part << ran.out;
  expect_nothing_written();
}

TEST_F(EvalProgram, PrintedConfigurationReadsBack) {
  const Ran first = run(config_text("reset", kGrid), "--print-config");
  ASSERT_EQ(first.status, 0) << first.err;
  const Ran second = run(first.out, "--print-config");
  EXPECT_EQ(first.out, second.out);
  expect_nothing_written();
}

TEST_F(EvalProgram, RefusalsAreOneLineAndWriteNothing) {
  const std::string cell = "cells:\n  - {name: c, sources: [0], sublayers: [mlp], intervention: mask, ";
  expect_refused(config_text("reset", cell + "layers: [6]}\n"), "cell 'c': layer 6");
  expect_refused(config_text("reset", cell + "layers: [0], colour: red}\n"), "colour");
  expect_refused(config_text("cumulative",
                             "cells:\n  - {name: c, sources: [0], sublayers: [final], intervention: mask}\n"),
                 "final");
  expect_refused(config_text("reset", kGrid), "not a plain model", "--set model.wrap.recency_bias=30");
  expect_refused(config_text("additive", kGrid), "set model.wrap");
  expect_refused(config_text("additive", kGrid), "recency_bias has 2 values",
                 "--set model.wrap.recency_bias=[1,2]");
  expect_refused(config_text("reset"), "11 windows", "--set data.sequences=12");
  expect_refused(config_text("nothing_of_that_name"), "nothing_of_that_name");
  expect_refused(config_text("reset"), "is a folder", "--set output=" + folder_.path());
  expect_refused(config_text("reset"), "is not a folder", "--set output=" + folder_ / "val.bin/results.h5");
  expect_refused(config_text("reset"), "is not a results file", "--set output=" + folder_ / "val.bin");
  EXPECT_EQ(TokenStream({folder_ / "val.bin"}, 97).num_tokens(), 100);  // left alone
}

TEST_F(EvalProgram, AFullDiskLeavesNothingAndIsStatusOne) {
  // A limit on the size of files stands in for a full disk: past it, write() fails.
  const Ran ran = run_shell("trap '' XFSZ; ulimit -f 8; ", config_text("kimi", kGrid), "");
  EXPECT_EQ(ran.status, 1) << ran.err;
  EXPECT_NE(ran.err.find("is the disk full?"), std::string::npos) << ran.err;
  EXPECT_FALSE(std::filesystem::exists(results()));
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder_.path()))
    EXPECT_TRUE(entry.is_directory() || entry.path().filename().string().find(".h5") == std::string::npos)
        << entry.path();
}

TEST_F(EvalProgram, H5pyReadsEveryVariableAndEveryAxisHasAScale) {
  if (std::system("/usr/bin/python3 -c 'import h5py' >/dev/null 2>&1") != 0)
    GTEST_SKIP() << "python3 has no h5py: the file is not read by another program";
  const Ran ran = run(config_text("reset", std::string(kGrid) + "routing: {weights: all}\n"));
  ASSERT_EQ(ran.status, 0) << ran.err;
  const std::string command = "/usr/bin/python3 " + test_paths::source() +
                              "/tests/eval/results/check_results.py " + results() + " >" + (folder_ / "out") +
                              " 2>&1";
  EXPECT_EQ(std::system(command.c_str()), 0) << read_file(folder_ / "out");
}

}  // namespace
}  // namespace depthroute
