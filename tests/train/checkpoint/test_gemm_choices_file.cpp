#include <gtest/gtest.h>

#include "data/files.h"
#include "data/json.h"
#include "tests/support/temp_folder.h"
#include "train/checkpoint/gemm_choices_file.h"

namespace depthroute {
namespace {

std::vector<StoredGemmChoices> sample() {
  GemmProduct product{.m = 64,
                      .n = 96,
                      .k = 32,
                      .transpose_b = true,
                      .operands = DType::bf16,
                      .result = DType::bf16,
                      .a_stride = 32,
                      .b_stride = 32,
                      .c_stride = 200,
                      .a_alignment = 16,
                      .b_alignment = 2,
                      .c_alignment = 16};
  GemmChoices choices;
  choices[product] = {"00ff", 2, 8, 12.375, 0.1};
  product.accumulate = true;
  choices[product] = {"0a", 0, 1, 3, -1};
  return {{{"NVIDIA \"X\"", "cuBLASLt 13.1.0", 1 << 26}, choices}, {{"other", "cuBLASLt 13.0.0", 0}, {}}};
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

/// With the checksum that the contents then have.
std::string sealed(const std::string& text) {
  nlohmann::json root = nlohmann::json::parse(text);
  const std::string contexts = root["contexts"].dump();
  root["checksum"] = hash_bytes(std::as_bytes(std::span<const char>(contexts)));
  return root.dump();
}

std::string problem_of(const std::string& text) {
  return message_of([&] { (void)gemm_choices_from_json(text, "choices.json"); });
}

TEST(GemmChoicesFile, IsReadBackAndAbsentIsEmpty) {
  const TempFolder folder;
  EXPECT_TRUE(read_gemm_choices(folder / "absent.json").empty());
  write_raw(folder / "choices.json", gemm_choices_to_json(sample()));
  EXPECT_EQ(read_gemm_choices(folder / "choices.json"), sample());
}

TEST(GemmChoicesFile, AnyFlippedBitIsRefusedOrChangesNothing) {
  const std::string text = gemm_choices_to_json(sample());
  int refused = 0;
  for (size_t at = 0; at < text.size(); ++at)
    for (int bit = 0; bit < 8; ++bit) {
      std::string flipped = text;
      flipped[at] = static_cast<char>(flipped[at] ^ (1 << bit));
      try {
        EXPECT_EQ(gemm_choices_from_json(flipped, "x"), sample()) << at << " " << bit;
      } catch (const DataError& error) {
        ++refused;
        EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
      }
    }
  EXPECT_GT(refused, static_cast<int>(7 * text.size()));
  for (size_t length = 0; length + 1 < text.size(); ++length)  // without the last newline it is whole
    EXPECT_THROW((void)gemm_choices_from_json(text.substr(0, length), "x"), DataError) << length;
}

TEST(GemmChoicesFile, ValuesThatCannotBeAreRefusedEvenUnderAGoodChecksum) {
  const std::string text = gemm_choices_to_json(sample());
  ASSERT_EQ(gemm_choices_from_json(sealed(text), "x"), sample());
  EXPECT_TRUE(has(problem_of(replaced(text, "\"m\": 64", "\"m\": 65")), "checksum"));
  const std::pair<std::string, std::string> cases[] = {
      {"\"m\": 64", "\"m\": 0"},
      {"\"m\": 64", "\"m\": 64.5"},
      {"\"n\": 96", "\"n\": 18446744073709551615"},
      {"\"k\": 32", "\"k\": 33"},  // more than a's row stride
      {"\"k\": 32,", ""},
      {"\"bf16\"", "\"i32\""},
      {"\"transpose_b\": true", "\"transpose_b\": 1"},
      {"\"00ff\"", "\"00f\""},
      {"\"00ff\"", "\"00FF\""},
      {"\"00ff\"", "\"\""},
      {"\"rank\": 2", "\"rank\": 8"},
      {"\"candidates\": 8", "\"candidates\": 0"},
      {"12.375", "-1"},
      {"12.375", "null"},
      {"\"accumulate\": true", "\"accumulate\": false"},  // twice the same product
      {"\"workspace_bytes\": 67108864", "\"workspace_bytes\": -1"},
      {"\"other\"", "7"},
      {"\"version\": 1", "\"version\": 2"},
  };
  for (const auto& [from, to] : cases) {
    const std::string problem = problem_of(sealed(replaced(text, from, to)));
    EXPECT_TRUE(problem.starts_with("choices.json: ")) << problem;
    EXPECT_FALSE(has(problem, "checksum does not fit")) << from << " -> " << to << ": " << problem;
  }
  std::vector<StoredGemmChoices> twice = sample();
  twice.push_back(twice.front());
  EXPECT_TRUE(has(problem_of(gemm_choices_to_json(twice)), "twice"));
}

}  // namespace
}  // namespace depthroute
