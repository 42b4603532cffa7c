// log.tensorboard: what an independent reader finds in the event files is what metrics.jsonl has, each step once,
// also after kills.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>

#include "data/files.h"
#include "data/run_layout.h"
#include "tests/support/paths.h"
#include "tests/train/tiny_run.h"
#include "train/tensorboard.h"

namespace depthroute {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing_support::Result;

class TensorBoardTest : public testing_support::TinyRun {
 protected:
  /// As tests/train/read_events.py reads them.
  std::vector<json> events(const std::string& folder) const {
    const Result read = testing_support::run_in_shell(
        fmt::format("python3 -B {}/tests/train/read_events.py {}", DEPTHROUTE_SOURCE_DIR, folder), folder_);
    EXPECT_EQ(read.status, 0) << read.err;
    std::vector<json> all;
    std::istringstream lines(read.out);
    for (std::string line; std::getline(lines, line);) all.push_back(json::parse(line));
    return all;
  }
  /// Every scalar as "step tag", in order, with its value.
  std::vector<std::pair<std::string, double>> scalars(const std::string& folder) const {
    std::vector<std::pair<std::string, double>> all;
    for (const json& event : events(folder))
      if (event.contains("scalars"))
        for (const auto& [tag, value] : event["scalars"].items())
          all.emplace_back(fmt::format("{:06} {}", event["step"].get<int64_t>(), tag), value.get<double>());
    return all;
  }
  void flatten(const json& line, int64_t step, const std::string& prefix,
               std::vector<std::pair<std::string, double>>& all) const {
    for (const auto& [key, value] : line.items()) {
      if (value.is_object()) flatten(value, step, prefix + key + "/", all);
      if (value.is_number() && prefix + key != "step")
        all.emplace_back(fmt::format("{:06} {}{}", step, prefix, key), value.get<double>());
    }
  }
  /// The same of metrics.jsonl.
  std::vector<std::pair<std::string, double>> logged(const std::string& output) const {
    std::vector<std::pair<std::string, double>> all;
    std::istringstream lines(read_file(metrics_path(path(output))));
    for (std::string text; std::getline(lines, text);) {
      const json line = json::parse(text);
      flatten(line, line["step"].get<int64_t>(), "", all);
    }
    return all;
  }
  void expect_same(std::vector<std::pair<std::string, double>> a,
                   std::vector<std::pair<std::string, double>> b) const {
    std::sort(a.begin(), a.end());
    std::sort(b.begin(), b.end());
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i) {
      EXPECT_EQ(a[i].first, b[i].first);
      EXPECT_NEAR(a[i].second, b[i].second, 1e-6 * std::abs(b[i].second)) << a[i].first;
    }
  }
};

TEST_F(TensorBoardTest, HoldsWhatTheMetricsHoldAlsoAfterAResume) {
  const std::string config = write_config("run", 10);
  const std::vector<std::string> on = {"--set", "log.tensorboard=true", "--set", "validate.every=5"};
  ASSERT_EQ(train(config, on).status, 0);
  const std::string folder = tensorboard_path(path("run"));
  const auto first = scalars(folder);
  EXPECT_GT(first.size(), 80u);
  expect_same(first, logged("run"));
  // The run goes on from step 7: what is logged of 8 to 10 is cut off and written again.
  fs::remove_all(checkpoint("run", 10));
  ASSERT_EQ(train(config, on).status, 0);
  const auto all = scalars(folder);
  expect_same(all, logged("run"));
  EXPECT_TRUE(std::is_sorted(all.begin(), all.end(), [](const auto& a, const auto& b) {
    return a.first.substr(0, 6) < b.first.substr(0, 6);
  }));
  EXPECT_EQ(std::count_if(all.begin(), all.end(), [](const auto& s) { return s.first.ends_with(" loss"); }),
            10);

  std::vector<json> starts;
  for (const json& event : events(folder)) {
    if (event.contains("version")) {
      EXPECT_EQ(event["version"], "brain.Event:2");
    }
    if (event.contains("session")) starts.push_back(event["step"]);
  }
  EXPECT_EQ(json(starts), json({1, 8}));
}

TEST_F(TensorBoardTest, IsNotThereUnlessAsked) {
  ASSERT_EQ(train(write_config("run", 3)).status, 0);
  EXPECT_FALSE(exists(tensorboard_path(path("run"))));
}

TEST_F(TensorBoardTest, WhateverAKillLeavesIsCut) {
  const std::string folder = path("events");
  const auto line = [](int64_t step) { return nlohmann::ordered_json{{"step", step}, {"loss", 1.0 * step}}; };
  const auto steps = [&] {
    std::vector<std::string> all;
    for (const auto& [what, value] : scalars(folder)) all.push_back(what);
    return all;
  };
  {
    TensorBoardLog log(folder, 0);
    for (int64_t step = 1; step <= 300; ++step) log.write(line(step));  // steps of one and two bytes
  }
  const std::string file = folder + "/events.out.tfevents.0000000001.depthroute", whole = read_file(file);
  for (const size_t lost : {1u, 5u, 20u, 40u, 41u, 60u}) {
    std::ofstream(file, std::ios::binary | std::ios::trunc) << whole.substr(0, whole.size() - lost);
    { TensorBoardLog log(folder, 297); }
    EXPECT_EQ(steps().size(), 297u) << lost;
    EXPECT_EQ(steps().back(), "000297 loss");
    fs::remove(folder + "/events.out.tfevents.0000000002.depthroute");
  }
  // Nothing of a file is left: it goes, and its number is not used again.
  { TensorBoardLog log(folder, 0); }
  EXPECT_EQ(list_folder(folder), std::vector<std::string>{"events.out.tfevents.0000000002.depthroute"});
  { TensorBoardLog log(folder, 0); }
  EXPECT_EQ(list_folder(folder), std::vector<std::string>{"events.out.tfevents.0000000003.depthroute"});
}

TEST(Crc32c, OfKnownTexts) {
  EXPECT_EQ(crc32c("123456789"), 0xe3069283u);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aau);  // RFC 3720, B.4
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43u);
}

}  // namespace
}  // namespace depthroute
