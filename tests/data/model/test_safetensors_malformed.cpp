// Every class of malformed safetensors file, with its message.
#include <gtest/gtest.h>

#include <cstring>

#include "data/files.h"
#include "data/model/safetensors.h"
#include "tests/support/temp_folder.h"

namespace depthroute {
namespace {

std::string file_of(const std::string& header, const std::string& data, uint64_t length) {
  std::string bytes(8, 0);
  std::memcpy(bytes.data(), &length, 8);
  return bytes + header + data;
}
std::string file_of(const std::string& header, size_t data_bytes = 0) {
  return file_of(header, std::string(data_bytes, 'd'), header.size());
}
std::string tensor(const std::string& name, const std::string& dtype, const std::string& shape,
                   const std::string& offsets) {
  return "\"" + name + R"(":{"dtype":")" + dtype + R"(","shape":[)" + shape + R"(],"data_offsets":[)" +
         offsets + "]}";
}

class MalformedTest : public testing::Test {
 protected:
  std::string message_for(const std::string& content) const {
    write_raw(path_, content);
    return message_of([&] { SafetensorsFile file(path_); });
  }
  void accept(const std::string& content) const {
    write_raw(path_, content);
    EXPECT_NO_THROW(SafetensorsFile{path_}) << content.substr(8);
  }
  void refuse(const std::string& content, const std::string& part) const {
    const std::string text = message_for(content);
    EXPECT_TRUE(has(text, part)) << content.substr(0, 200) << "\n" << text << "\nexpected: " << part;
    EXPECT_EQ(text.rfind(path_ + ": ", 0), 0u) << text;
  }

  const TempFolder folder_;
  const std::string path_ = folder_ / "m.safetensors";
};

TEST_F(MalformedTest, LengthOfTheHeader) {
  refuse("", "0 bytes are too few");
  refuse("1234567", "7 bytes are too few");
  refuse(file_of("", "", 0), "does not start with '{'");
  refuse(file_of("{}", "", 3), "the header is 3 bytes long, but the file holds 2 after its first 8");
  refuse(file_of("{}", "", 100'000'000), "the header is 100000000 bytes long, but the file holds 2");
  refuse(file_of("{}", "", 100'000'001), "the header would be 100000001 bytes long");
  refuse(file_of("{}", "", ~uint64_t{0}), "the header would be 18446744073709551615 bytes long");
  refuse(file_of("{}", "", ~uint64_t{0} - 7), "the header would be");
}

TEST_F(MalformedTest, Json) {
  refuse(file_of("[]"), "does not start with '{'");
  refuse(file_of(" {}"), "does not start with '{'");
  refuse(file_of("{"), "not valid JSON");
  refuse(file_of("{}x"), "not valid JSON");
  refuse(file_of("{}{}"), "not valid JSON");
  refuse(file_of("{\"\xff\":{}}"), "not valid JSON");
  refuse(file_of(std::string("{}\0", 3)), "not valid JSON");
  refuse(file_of("{\"a\":" + std::string(100000, '[')), "tensor \"a\" is described by a list");
  accept(file_of("{}   "));
}

TEST_F(MalformedTest, Structure) {
  refuse(file_of(R"({"a":3})"), "tensor \"a\" is described by a number, not an object");
  refuse(file_of(R"({"a":null})"), "tensor \"a\" is described by null");
  refuse(file_of(R"({"a":"x"})"), "tensor \"a\" is described by a string");
  refuse(file_of(R"({"a":{}})"), "tensor \"a\" lacks dtype");
  refuse(file_of(R"({"a":{"dtype":"F32"}})"), "tensor \"a\" lacks shape");
  refuse(file_of(R"({"a":{"dtype":"F32","shape":[]}})"), "tensor \"a\" lacks data_offsets");
  refuse(file_of(R"({"a":{"dtype":3}})"), "tensor \"a\": dtype holds a number");
  refuse(file_of(R"({"a":{"dtype":["F32"]}})"), "tensor \"a\": dtype holds a list");
  refuse(file_of(R"({"a":{"dtype":{}}})"), "tensor \"a\": dtype holds an object");
  refuse(file_of(R"({"a":{"shape":3}})"), "tensor \"a\": shape holds a number");
  refuse(file_of(R"({"a":{"shape":[[1]]}})"), "tensor \"a\": shape holds a list");
  refuse(file_of(R"({"a":{"shape":[-1]}})"), "tensor \"a\": shape holds a negative number");
  refuse(file_of(R"({"a":{"shape":[1.0]}})"), "tensor \"a\": shape holds a fraction");
  refuse(file_of(R"({"a":{"shape":[true]}})"), "tensor \"a\": shape holds a truth value");
  refuse(file_of(R"({"a":{"shape":[9223372036854775808]}})"), "shape holds 9223372036854775808");
  refuse(file_of(R"({"a":{"shape":[99999999999999999999]}})"),
         "shape holds a fraction or too large a number");
  refuse(file_of(R"({"a":{"more":1}})"), "tensor \"a\" has the unknown key \"more\"");
  refuse(file_of("{" + tensor("a", "F32", "1", "0") + "}", 4), "data_offsets must be two numbers");
  refuse(file_of("{" + tensor("a", "F32", "1", "0,4,8") + "}", 4), "data_offsets must be two numbers");
  refuse(file_of(R"({"a\nb":3})"), "tensor \"a?b\"");  // one line whatever a name holds
  refuse(file_of("{\"" + std::string(500, 'n') + "\":3}"), std::string(120, 'n') + "...\"");
}

TEST_F(MalformedTest, KeysGivenTwice) {
  const std::string a = tensor("a", "F32", "1", "0,4");
  refuse(file_of("{" + a + "," + a + "}", 4), "the tensor \"a\" is given twice");
  refuse(file_of("{" + a + "," + tensor("\\u0061", "F32", "1", "4,8") + "}", 8),
         "the tensor \"a\" is given twice");
  refuse(file_of(R"({"a":{"dtype":"F32","dtype":"F32"}})"), "tensor \"a\" has the key \"dtype\" twice");
  refuse(file_of(R"({"a":{"shape":[],"shape":[]}})"), "has the key \"shape\" twice");
  refuse(file_of(R"({"__metadata__":{"k":"1","k":"2"}})"), "the metadata key \"k\" is given twice");
  refuse(file_of(R"({"__metadata__":{},"__metadata__":{}})"), "\"__metadata__\" is given twice");
}

TEST_F(MalformedTest, Metadata) {
  accept(file_of(R"({"__metadata__":{"format":"pt"}})"));
  refuse(file_of(R"({"__metadata__":3})"), "described by a number");
  refuse(file_of(R"({"__metadata__":{"k":3}})"), "the metadata value of \"k\" is a number, not a string");
  refuse(file_of(R"({"__metadata__":{"k":{}}})"), "the metadata value of \"k\" is an object");
  refuse(file_of(R"({"__metadata__":{"k":null}})"), "the metadata value of \"k\" is null");
}

TEST_F(MalformedTest, SizesAndOffsets) {
  const auto one = [](const char* dtype, const char* shape, const char* offsets) {
    return "{" + tensor("a", dtype, shape, offsets) + "}";
  };
  refuse(file_of(one("F33", "1", "0,4"), 4), "tensor \"a\" has the unknown dtype \"F33\"");
  refuse(file_of(one("F32", "2", "0,4"), 4),
         "tensor \"a\" is F32 [2], 8 bytes, but its data_offsets are [0, 4]");
  refuse(file_of(one("BF16", "2", "0,8"), 8),
         "tensor \"a\" is BF16 [2], 4 bytes, but its data_offsets are [0, 8]");
  refuse(file_of(one("F32", "1", "4,0"), 4), "data_offsets are [4, 0]");
  refuse(file_of(one("F32", "1", "0,4"), 3),
         "ends at byte 4 of the data, but the file holds 3; it is truncated");
  refuse(file_of(one("F32", "1", "0,4"), 5), "1 bytes follow the last tensor");
  refuse(file_of("{}", 1), "1 bytes follow the last tensor");
  refuse(file_of(one("F32", "1", "4,8"), 8),
         "begins at byte 4 of the data, where 0 would follow the one before: there is a hole");
  refuse(file_of(one("F32", "4294967296,4294967296", "0,4"), 4), "its size overflows");
  refuse(file_of(one("F32", "4611686018427387904,4611686018427387904,0", "0,0")), "its size overflows");
  refuse(file_of(one("F64", "1152921504606846976", "0,0")), "its size overflows");  // 2^60 * 64 bits
  refuse(file_of(one("F4", "3", "0,2"), 2), "does not end on a whole byte");
  accept(file_of(one("F4", "4", "0,2"), 2));
  accept(file_of(one("F6_E2M3", "4", "0,3"), 3));
  accept(file_of(one("F32", "0,4294967296", "0,0")));
  accept(file_of(one("BOOL", "", "0,1"), 1));
}

TEST_F(MalformedTest, OverlapsAndHolesBetweenTensors) {
  const std::string a = tensor("a", "F32", "2", "0,8");
  refuse(file_of("{" + a + "," + tensor("b", "F32", "2", "4,12") + "}", 12),
         "tensor \"b\" begins at byte 4 of the data, where 8 would follow the one before: they overlap");
  refuse(file_of("{" + a + "," + tensor("b", "F32", "2", "0,8") + "}", 8), "they overlap");
  refuse(file_of("{" + a + "," + tensor("b", "F32", "1", "12,16") + "}", 16), "there is a hole");
  refuse(file_of("{" + a + "," + tensor("b", "F32", "0", "4,4") + "}", 8), "they overlap");
  accept(file_of("{" + tensor("b", "F32", "1", "8,12") + "," + a + "}", 12));  // any order in the header
  accept(file_of("{" + tensor("z", "F32", "0", "8,8") + "," + a + "," + tensor("c", "F32", "0", "0,0") + "}",
                 8));
}

TEST_F(MalformedTest, OtherDtypesAreListedButNotReadAsNumbers) {
  write_raw(path_, file_of("{" + tensor("a", "I64", "1", "0,8") + "}", 8));
  const SafetensorsFile file(path_);
  std::vector<float> out(1);
  EXPECT_TRUE(has(message_of([&] { file.read_float(*file.find("a"), out); }), "tensor \"a\" has dtype I64"));
}

TEST_F(MalformedTest, UnalignedDataIsRead) {
  const std::string header = "{" + tensor("a", "F32", "2", "0,8") + "}";
  const float values[2] = {1.5f, -2.0f};
  for (int spaces = 0; spaces < 8; ++spaces) {
    const std::string padded = header + std::string(spaces, ' ');
    write_raw(path_, file_of(padded, std::string(reinterpret_cast<const char*>(values), 8), padded.size()));
    const SafetensorsFile file(path_);
    std::vector<float> out(2);
    file.read_float(file.entries()[0], out);
    EXPECT_EQ(out, (std::vector<float>{1.5f, -2.0f}));
  }
}

TEST_F(MalformedTest, EveryTruncationIsFoundAndNoFlippedBitCrashes) {
  const std::vector<float> values = {1, 2, 3};
  const std::vector<TensorToWrite> tensors = {{"first", {3}, values}, {"second", {3, 1}, values, true}};
  write_safetensors(path_, tensors, {{"format", "pt"}});
  const std::string whole = read_file(path_);
  for (size_t size = 0; size < whole.size(); ++size)
    ASSERT_FALSE(message_for(whole.substr(0, size)).empty()) << size;
  int refused = 0;
  for (size_t bit = 0; bit < 8 * (whole.size() - 18); ++bit) {
    std::string changed = whole;
    changed[bit / 8] = static_cast<char>(changed[bit / 8] ^ (1 << bit % 8));
    write_raw(path_, changed);
    try {
      const SafetensorsFile file(path_);  // a changed letter of a name is another valid file
      for (const TensorEntry& entry : file.entries())
        ASSERT_EQ(file.bytes(entry).size(), entry.dtype == "F32" ? 12u : 6u);
    } catch (const DataError&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, static_cast<int>(4 * whole.size()));
}

}  // namespace
}  // namespace depthroute
