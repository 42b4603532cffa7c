#include <sys/stat.h>

#include "configs/base/regular_file.h"
#include "data/atomic_path.h"
#include "data/files.h"
#include "tests/support/temp_folder.h"

namespace depthroute {
namespace {

namespace fs = std::filesystem;

std::span<const std::byte> bytes_of(const std::string& text) { return std::as_bytes(std::span(text)); }

TEST(Reading, AbsentFilesAndFoldersAreDataErrorsWithThePath) {
  const TempFolder folder;
  for (const std::string& path : {folder / "absent", folder.path()}) {
    EXPECT_TRUE(has(message_of([&] { read_file(path); }), path));
    EXPECT_TRUE(has(message_of([&] { hash_file(path); }), path));
    EXPECT_TRUE(has(message_of([&] { MappedFile file(path); }), path));
  }
}

// A FIFO that nobody writes to would keep open() waiting for ever; an endless device would fill the memory.
TEST(Reading, OnlyRegularFilesAreReadAndNothingIsWaitedFor) {
  const TempFolder folder;
  ASSERT_EQ(::mkfifo((folder / "fifo").c_str(), 0600), 0);
  for (const std::string& path : {folder / "fifo", std::string("/dev/zero")}) {
    EXPECT_TRUE(has(message_of([&] { read_file(path); }), path + ": is a "));
    EXPECT_TRUE(has(message_of([&] { hash_file(path); }), path + ": is a "));
    EXPECT_TRUE(has(message_of([&] { MappedFile file(path); }), path + ": is a "));
  }
}

TEST(Reading, MoreThanTheLimitIsRefused) {
  const TempFolder folder;
  write_raw(folder / "f", "12345");
  EXPECT_EQ(read_file(folder / "f", 5), "12345");
  EXPECT_TRUE(has(message_of([&] { read_file(folder / "f", 4); }), "more than 4 bytes"));
}

// Root may read everything: a name that is too long stands for whatever hides a file without its being
// absent.
TEST(Reading, WhatCannotBeLookedAtIsNotTakenForAbsent) {
  const TempFolder folder;
  const std::string unreachable = folder / std::string(5000, 'n');
  EXPECT_TRUE(has(message_of<AccessError>([&] { exists(unreachable); }), "cannot be accessed"));
  EXPECT_TRUE(has(message_of<AccessError>([&] { list_folder(unreachable); }), "cannot be listed"));
  EXPECT_TRUE(has(message_of<AccessError>([&] { read_file(unreachable); }), "cannot open"));
  EXPECT_FALSE(exists(folder / "absent"));
  EXPECT_TRUE(exists(folder.path()));
}

TEST(ListFolder, NamesEverythingInsideInOrder) {
  const TempFolder folder;
  for (const char* name : {"b", "a", ".hidden"}) write_raw(folder / name, "");
  fs::create_directory(folder / "c");
  EXPECT_EQ(list_folder(folder.path()), (std::vector<std::string>{".hidden", "a", "b", "c"}));
  EXPECT_TRUE(list_folder(folder / "absent").empty());
  EXPECT_TRUE(has(message_of([&] { list_folder(folder / "a"); }), "is not a folder"));
}

TEST(Reading, MapHashAndReadAgreeOnAnySize) {
  const TempFolder folder;
  for (const size_t size : {0, 1, 4096, 1048576, 1048577}) {
    std::string content(size, 0);
    for (size_t i = 0; i < size; ++i) content[i] = static_cast<char>(i * 31 + i / 251);
    write_file_atomically(folder / "f", content);
    EXPECT_EQ(read_file(folder / "f"), content);
    EXPECT_EQ(hash_file(folder / "f"), hash_bytes(bytes_of(content)));
    MappedFile first(folder / "f");
    const MappedFile map(std::move(first));
    EXPECT_EQ(map.size(), static_cast<int64_t>(size));
    EXPECT_TRUE(std::equal(map.bytes().begin(), map.bytes().end(), bytes_of(content).begin(),
                           bytes_of(content).end()));
  }
}

TEST(Hash, PiecesMakeTheWhole) {
  const std::string text(10000, 'h');
  for (const size_t piece : {1, 7, 4096, 20000}) {
    Hasher hasher;
    for (size_t at = 0; at < text.size(); at += piece)
      hasher.update(bytes_of(text).subspan(at, std::min(piece, text.size() - at)));
    EXPECT_EQ(hasher.hex(), hash_bytes(bytes_of(text))) << piece;
  }
  EXPECT_EQ(Hasher().hex(), hash_bytes({}));
}

// xxHash's own test vector for the empty input, seed 0.
TEST(Hash, IsXxh3OfWidth128) { EXPECT_EQ(hash_bytes({}), "99aa06d3014798d86001c324468d497f"); }

TEST(Patterns, ExpandSortedAndSkipUnfinishedFiles) {
  const TempFolder folder;
  for (const char* name : {"b.bin", "a.bin", "a[1].bin", "a10.bin", "c.bin.tmp-12", ".hidden.bin"})
    write_raw(folder / name, "");
  EXPECT_EQ(expand_patterns({folder / "*.bin*"}),
            (std::vector<std::string>{folder / "a.bin", folder / "a10.bin", folder / "a[1].bin",
                                      folder / "b.bin"}));
  EXPECT_EQ(expand_patterns({folder / "a[1]*", folder / "?.bin", "absent"}),
            (std::vector<std::string>{folder / "a[1].bin", folder / "a.bin", folder / "b.bin", "absent"}));
}

TEST(Patterns, NamesThatAreNoUtf8AreRefused) {
  const TempFolder folder;
  write_raw(folder / "a\xff.bin", "");
  EXPECT_TRUE(has(message_of([&] { expand_patterns({folder / "*.bin"}); }), "not UTF-8"));
}

TEST(Patterns, NothingFoundAndFoundTwiceAreErrors) {
  const TempFolder folder;
  write_raw(folder / "a.bin", "");
  EXPECT_TRUE(has(message_of([&] { expand_patterns({folder / "*.txt"}); }), "no file matches"));
  EXPECT_TRUE(has(message_of([&] {
                    expand_patterns({folder / "a.bin", folder / "*.bin"});
                  }),
                  "listed before"));
}

}  // namespace
}  // namespace depthroute
