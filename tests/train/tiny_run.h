// A model so small that a step takes a millisecond, and token shards for it whose borders fall inside
// samples.
#pragma once

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "configs/train_config.h"
#include "tests/support/program.h"
#include "tests/support/temp_folder.h"

namespace depthroute::testing_support {

/// Hidden 32, 2 layers, vocabulary 256, kimi; batch 4 of 32 tokens; no output or data.
TrainConfig tiny_config();

/// A folder of its own with shards; removed afterwards.
class TinyRun : public ::testing::Test {
 protected:
  void SetUp() override;

  /// The configuration as a file, writing to <folder>/<output>.
  std::string write_config(const std::string& output, int64_t steps);
  Result train(const std::string& config, std::vector<std::string> more = {});

  std::string path(const std::string& name) const { return folder_ + "/" + name; }
  std::string checkpoint(const std::string& output, int64_t step) const;
  /// metrics.jsonl without the fields that hold times.
  std::vector<nlohmann::json> metrics(const std::string& output) const;
  /// Same weights, moments and state after `step`, bit for bit, and the same metrics.
  void expect_same_run(const std::string& a, const std::string& b, int64_t step) const;
  static void flip_byte(const std::string& file, int64_t offset_from_end);
  /// Overwrites the first value of a tensor in a safetensors file.
  static void poison(const std::string& file, const std::string& tensor, float value);
  static bool exists(const std::string& file);

  const TempFolder temp_folder_;
  const std::string folder_ = temp_folder_.path();
};

/// One line that ends in a newline.
::testing::AssertionResult is_one_line(const std::string& text);

}  // namespace depthroute::testing_support
