#include "data/files.h"
#include "data/tokens/contents_cache.h"
#include "tests/support/temp_folder.h"

namespace depthroute {
namespace {

constexpr int64_t kLater = int64_t{1} << 62;  // long after any file was written

TEST(ContentsCache, RemembersOneFileInOneState) {
  const TempFolder folder;
  write_raw(folder / "shard", "tokens");
  const FileIdentity file = identify(folder / "shard").value();
  const ShardContents contents = {"0123", 255};
  {
    ContentsCache cache(folder / "cache.json");
    EXPECT_FALSE(cache.find(file));
    cache.add(file, contents, kLater);
    cache.save();
  }
  ContentsCache cache(folder / "cache.json");
  EXPECT_EQ(cache.find(file), contents);
  for (const auto& change : {&FileIdentity::size, &FileIdentity::modified_ns, &FileIdentity::changed_ns}) {
    FileIdentity other = file;
    other.*change += 1;
    EXPECT_FALSE(cache.find(other));
  }
  for (const auto& change : {&FileIdentity::inode, &FileIdentity::device}) {
    FileIdentity other = file;
    other.*change += 1;
    EXPECT_FALSE(cache.find(other));
  }
}

// The clock may not have moved between the reading and a write that followed it.
TEST(ContentsCache, DoesNotTrustFilesWrittenJustBeforeTheyWereRead) {
  const TempFolder folder;
  write_raw(folder / "shard", "tokens");
  const FileIdentity file = identify(folder / "shard").value();
  ContentsCache cache(folder / "cache.json");
  cache.add(file, {"0123", 255}, file.modified_ns + 1'000'000'000);
  cache.save();
  EXPECT_FALSE(exists(folder / "cache.json"));
}

TEST(ContentsCache, DamageCostsReadingAndNoMore) {
  const TempFolder folder;
  write_raw(folder / "shard", "tokens");
  const FileIdentity file = identify(folder / "shard").value();
  for (const std::string& text :
       {std::string("not json"), std::string("{}"), std::string(R"({"version": 2, "files": {}})"),
        std::string(R"({"version": 1, "files": {"x": {"checksum": 3}}})"),
        std::string(R"({"version": 1, "files": 3})")}) {
    write_raw(folder / "cache.json", text);
    ContentsCache cache(folder / "cache.json");
    EXPECT_FALSE(cache.find(file)) << text;
    cache.add(file, {"0123", 255}, kLater);
    cache.save();
    EXPECT_TRUE(ContentsCache(folder / "cache.json").find(file)) << text;
  }
}

}  // namespace
}  // namespace depthroute
