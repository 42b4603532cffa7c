#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "data/files.h"
#include "data/model/safetensors.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"

namespace depthroute {
namespace {

std::vector<float> read(const SafetensorsFile& file, const std::string& name) {
  const TensorEntry* entry = file.find(name);
  if (entry == nullptr) throw DataError("{} is absent", name);
  std::vector<float> values(static_cast<size_t>(entry->numel()));
  file.read_float(*entry, values);
  return values;
}

TEST(Bf16, WideningIsExactAndRoundingIsToNearestEven) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const auto stored = static_cast<uint16_t>(bits);
    const float value = bf16_to_float(stored);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(bf16_to_float(float_to_bf16(value)))) << bits;
      continue;
    }
    ASSERT_EQ(float_to_bf16(value), stored);
    if (std::isinf(value)) continue;
    // Half way to the next larger magnitude goes to the even one; a bit to either side goes to the nearer.
    const uint32_t wide = std::bit_cast<uint32_t>(value);
    const auto next = static_cast<uint16_t>(stored + 1);
    ASSERT_EQ(float_to_bf16(std::bit_cast<float>(wide + 0x8000u)), stored % 2 == 0 ? stored : next);
    ASSERT_EQ(float_to_bf16(std::bit_cast<float>(wide + 0x7fffu)), stored);
    ASSERT_EQ(float_to_bf16(std::bit_cast<float>(wide + 0x8001u)), next);
  }
  // A NaN whose kept bits are all zero must not become infinite.
  EXPECT_TRUE(std::isnan(bf16_to_float(float_to_bf16(std::bit_cast<float>(0x7f800001u)))));
  EXPECT_TRUE(std::isnan(bf16_to_float(float_to_bf16(std::bit_cast<float>(0xffffffffu)))));
}

TEST(F16, EveryValueFollowsTheFormula) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const double sign = bits & 0x8000 ? -1 : 1;
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    const float value = f16_to_float(static_cast<uint16_t>(bits));
    if (exponent == 31) {
      ASSERT_EQ(std::isnan(value), fraction != 0);
      ASSERT_EQ(std::isinf(value), fraction == 0);
      continue;
    }
    const double expected =
        exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
    ASSERT_EQ(value, sign * expected);
    ASSERT_EQ(std::signbit(value), sign < 0);
  }
}

TEST(Safetensors, WrittenTensorsReadBackBitForBit) {
  const TempFolder folder;
  const std::string path = folder / "m.safetensors";
  const std::vector<float> odd = {1.5f, -0.0f, INFINITY, -INFINITY, std::numeric_limits<float>::denorm_min(),
                                  NAN};
  const std::vector<float> scalar = {3.25f}, many(70001, 0.1f), none;
  const std::string awkward = "a \"quoted\"\n\xc3\xa9 name";
  const std::vector<TensorToWrite> tensors = {{"z", {2, 3}, odd},
                                              {"half", {70001}, many, true},
                                              {"scalar", {}, scalar},
                                              {"none", {4, 0}, none},
                                              {awkward, {1}, scalar, true}};
  write_safetensors(path, tensors, {{"format", "pt"}, {"note", "\xc3\xa9"}});
  const SafetensorsFile file(path);
  EXPECT_EQ(file.metadata(), (std::map<std::string, std::string>{{"format", "pt"}, {"note", "\xc3\xa9"}}));
  ASSERT_EQ(file.entries().size(), tensors.size());
  EXPECT_EQ(std::memcmp(read(file, "z").data(), odd.data(), odd.size() * 4), 0);
  EXPECT_EQ(file.find("z")->shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(read(file, "scalar"), scalar);
  EXPECT_TRUE(file.find("scalar")->shape.empty());
  EXPECT_TRUE(read(file, "none").empty());
  EXPECT_EQ(read(file, "half"), std::vector<float>(70001, bf16_to_float(float_to_bf16(0.1f))));
  EXPECT_EQ(file.find("half")->dtype, "BF16");
  EXPECT_EQ(read(file, awkward), scalar);
  EXPECT_EQ(file.find("absent"), nullptr);
}

// What other readers may rely on: an aligned header, larger elements first, then by name; equal input, equal
// bytes.
TEST(Safetensors, FileIsLaidOutAsTheReferenceWriterDoes) {
  const TempFolder folder;
  const std::vector<float> two = {1, 2};
  const std::vector<TensorToWrite> tensors = {
      {"b", {2}, two, true}, {"d", {2}, two}, {"a", {2}, two, true}, {"c", {2}, two}};
  write_safetensors(folder / "m", tensors);
  const std::string bytes = read_file(folder / "m");
  uint64_t length;
  std::memcpy(&length, bytes.data(), 8);
  EXPECT_EQ(length % 8, 0u);
  const std::string header = bytes.substr(8, length);
  EXPECT_EQ(
      header.substr(0, header.find_last_not_of(' ') + 1),
      R"({"c":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"d":{"dtype":"F32","shape":[2],"data_offsets":[8,16]},)"
      R"("a":{"dtype":"BF16","shape":[2],"data_offsets":[16,20]},"b":{"dtype":"BF16","shape":[2],"data_offsets":[20,24]}})");
  EXPECT_EQ(bytes.size(), 8 + length + 24);
  EXPECT_EQ(folder.names(), std::vector<std::string>{"m"});
}

TEST(Safetensors, EmptyFileOfNoTensorsIsLegal) {
  const TempFolder folder;
  write_safetensors(folder / "m", {});
  EXPECT_TRUE(SafetensorsFile(folder / "m").entries().empty());
}

TEST(Safetensors, WriterDescribesWhatItWroteAndCanBeStopped) {
  const TempFolder folder;
  const std::vector<float> large(700001, 0.3f), small = {1, 2};  // chunks, and a rest
  const std::vector<TensorToWrite> tensors = {{"large", {700001}, large},
                                              {"none", {0}, {}},
                                              {"rounded", {700001}, large, true},
                                              {"small", {2}, small}};
  int chunks = 0;
  const WrittenFile written = write_safetensors(folder / "m", tensors, {}, [&] { ++chunks; });
  EXPECT_EQ(written.size, static_cast<int64_t>(std::filesystem::file_size(folder / "m")));
  EXPECT_EQ(written.checksum, hash_file(folder / "m"));
  EXPECT_EQ(chunks, 3 + 3 + 1);
  const auto stop_at = [&](int chunk) {
    return [chunk, at = 0]() mutable {
      if (++at == chunk) throw std::string("enough");
    };
  };
  for (int chunk = 1; chunk <= chunks; ++chunk)
    EXPECT_THROW(write_safetensors(folder / "n", tensors, {}, stop_at(chunk)), std::string);
  EXPECT_EQ(folder.names(), std::vector<std::string>{"m"});
}

TEST(Safetensors, UnwritablePlaceIsASystemError) {
  const TempFolder folder;
  EXPECT_TRUE(
      has(message_of<SystemError>([&] { write_safetensors(folder / "absent/m", {}); }), folder / "absent/m"));
  const std::vector<float> one = {1};
  const std::vector<TensorToWrite> bad = {{"\xff", {1}, one}};  // JSON is UTF-8
  EXPECT_TRUE(
      has(message_of<InputError>([&] { write_safetensors(folder / "m", bad); }), "cannot be written"));
  EXPECT_TRUE(folder.names().empty());
}

TEST(Safetensors, GoldenModelIsRead) {
  const SafetensorsFile file(test_paths::golden() + "/kimi/model.safetensors");
  EXPECT_EQ(file.find("model.embed_tokens.weight")->shape, (std::vector<int64_t>{97, 32}));
  EXPECT_EQ(file.find("model.final_res_bias")->numel(), 1);
  for (const float value : read(file, "model.embed_tokens.weight")) ASSERT_LT(std::abs(value), 10.0f);
}

}  // namespace
}  // namespace depthroute
