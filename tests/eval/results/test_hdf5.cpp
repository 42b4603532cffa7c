// The HDF5 wrapper: what is written reads back, is described, has scales, and is the same bytes every time.
#include <gtest/gtest.h>

#include "configs/base/error.h"
#include "data/atomic_path.h"
#include "data/files.h"
#include "eval/results/hdf5.h"
#include "tests/eval/eval_fixture.h"

namespace depthroute {
namespace {

void write_example(const std::string& path, double value) {
  Hdf5Writer file(path);
  file.attribute("/", "text", std::string("naïve"));
  file.attribute("/", "long_text", std::string(100000, 'x'));
  file.attribute("/", "count", int64_t{42});
  file.attribute("/", "paths", std::vector<std::string>{"a", "b"});
  file.group("/g");
  const std::vector<std::string> names = {"one", "zwölf", ""};
  file.scale("/g/row", names, {"", "rows"});
  file.scale("/g/column", std::vector<int64_t>{0, 1}, {"1", "columns"});
  file.write<double>("/g/x", std::vector<double>{value, 1, 2, 3, 4, 5}, {"/g/row", "/g/column"},
                     {"nats", "x"});
  file.write<std::string>("/g/label", names, {"/g/row"}, {"", "labels"});
  file.write<uint8_t>("/g/flag", std::vector<uint8_t>{0, 1, 2}, {"/g/row"}, {"1", "flags"});
  file.write<double>("/g/scalar", std::vector<double>{7}, {}, {"1", "one number"});
  file.group("/h");
  file.link("/g/row", "/h/row");
  file.create_u16("/h/blocks", {"/h/row", "/g/column"}, {1, 2}, {"1", "filled in parts"});
  file.write_block("/h/blocks", std::vector<uint16_t>{5, 6}, {1, 0}, {1, 2});
  file.close();
}

TEST(Hdf5, WhatIsWrittenReadsBack) {
  const TempFolder folder;
  write_example(folder / "a.h5", 0.5);
  const Hdf5Reader file(folder / "a.h5");
  EXPECT_EQ(file.string_attribute("/", "text"), "naïve");
  EXPECT_EQ(file.string_attribute("/", "long_text").size(), 100000u);
  EXPECT_EQ(file.integer_attribute("/", "count"), 42);
  EXPECT_EQ(file.shape("/g/x"), (std::vector<int64_t>{3, 2}));
  EXPECT_EQ(file.doubles("/g/x"), (std::vector<double>{0.5, 1, 2, 3, 4, 5}));
  EXPECT_EQ(file.strings("/h/row"), (std::vector<std::string>{"one", "zwölf", ""}));
  EXPECT_EQ(file.integers("/g/flag"), (std::vector<int64_t>{0, 1, 2}));
  EXPECT_EQ(file.doubles("/g/scalar"), std::vector<double>{7});
  EXPECT_EQ(file.integers("/h/blocks"), (std::vector<int64_t>{0, 0, 5, 6, 0, 0}));
  EXPECT_EQ(file.string_attribute("/g/x", "units"), "nats");
  EXPECT_EQ(file.children("/g"), (std::vector<std::string>{"column", "flag", "label", "row", "scalar", "x"}));
  EXPECT_TRUE(file.has("/g/x"));
  EXPECT_FALSE(file.has("/g/y"));
  EXPECT_FALSE(file.has("/y/x"));
}

TEST(Hdf5, EqualContentsAreEqualBytes) {
  const TempFolder folder;
  write_example(folder / "a.h5", 0.5);
  write_example(folder / "b.h5", 0.5);
  write_example(folder / "c.h5", 0.25);
  EXPECT_EQ(hash_file(folder / "a.h5"), hash_file(folder / "b.h5"));
  EXPECT_NE(hash_file(folder / "a.h5"), hash_file(folder / "c.h5"));
}

TEST(Hdf5, ADamagedArrayIsNoticed) {
  const TempFolder folder;
  write_example(folder / "a.h5", 0.5);
  std::string bytes = read_file(folder / "a.h5");
  const double value = 0.5;
  const std::string stored(reinterpret_cast<const char*>(&value), sizeof value);
  const size_t place = bytes.find(stored);
  ASSERT_NE(place, std::string::npos);
  bytes[place] ^= 1;
  write_file_atomically(folder / "b.h5", bytes);
  EXPECT_THROW(Hdf5Reader(folder / "b.h5").doubles("/g/x"), DataError);
}

TEST(Hdf5, WhatIsNotThereIsAnInputError) {
  const TempFolder folder;
  write_file_atomically(folder / "text.h5", "not HDF5");
  EXPECT_FALSE(is_hdf5_file(folder / "text.h5"));
  EXPECT_THROW(Hdf5Reader(folder / "text.h5"), DataError);
  EXPECT_THROW(Hdf5Reader(folder / "absent.h5"), DataError);
  write_example(folder / "a.h5", 0.5);
  const Hdf5Reader file(folder / "a.h5");
  EXPECT_THROW(file.doubles("/g/y"), DataError);
  EXPECT_THROW(file.integer_attribute("/", "text"), DataError);
  EXPECT_THROW(file.string_attribute("/", "count"), DataError);
  EXPECT_THROW(Hdf5Writer(folder / "no/such/folder.h5"), SystemError);
}

}  // namespace
}  // namespace depthroute
