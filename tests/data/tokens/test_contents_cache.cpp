#include "data/files.h"
#include "data/tokens/contents_cache.h"
#include "tests/support/temp_folder.h"

namespace depthroute {
namespace {

constexpr int64_t kLater = int64_t{1} << 62;  // long after any file was written

std::vector<ShardFile> shard_files(const std::vector<std::string>& paths) {
  std::vector<ShardFile> files;
  for (const std::string& path : paths) files.push_back({path, identify(path).value()});
  return files;
}

TEST(ContentsCache, RemembersTheFilesOfAShardInOneState) {
  const TempFolder folder;
  write_raw(folder / "shard.idx", "index");
  write_raw(folder / "shard.bin", "tokens");
  const std::vector<ShardFile> files = shard_files({folder / "shard.idx", folder / "shard.bin"});
  const ShardContents contents = {"0123", 255};
  {
    ContentsCache cache(folder / "cache.json");
    EXPECT_FALSE(cache.find(files));
    cache.add(files, contents, kLater);
    cache.save();
  }
  ContentsCache cache(folder / "cache.json");
  EXPECT_EQ(cache.find(files), contents);
  EXPECT_FALSE(cache.find(std::span(files).first(1)));
  EXPECT_FALSE(cache.find(std::span(files).last(1)));
  for (size_t i = 0; i < files.size(); ++i) {
    const auto changed = [&](auto change) {
      std::vector<ShardFile> other = files;
      other[i].identity.*change += 1;
      return cache.find(other);
    };
    for (const auto& change : {&FileIdentity::size, &FileIdentity::modified_ns, &FileIdentity::changed_ns})
      EXPECT_FALSE(changed(change));
    for (const auto& change : {&FileIdentity::inode, &FileIdentity::device}) EXPECT_FALSE(changed(change));
  }
}

// The clock may not have moved between the reading and a write that followed it.
TEST(ContentsCache, DoesNotTrustFilesWrittenJustBeforeTheyWereRead) {
  const TempFolder folder;
  write_raw(folder / "shard", "tokens");
  const std::vector<ShardFile> files = shard_files({folder / "shard"});
  ContentsCache cache(folder / "cache.json");
  cache.add(files, {"0123", 255}, files[0].identity.modified_ns + 1'000'000'000);
  cache.save();
  EXPECT_FALSE(exists(folder / "cache.json"));
}

TEST(ContentsCache, DamageCostsReadingAndNoMore) {
  const TempFolder folder;
  write_raw(folder / "shard", "tokens");
  const std::vector<ShardFile> files = shard_files({folder / "shard"});
  for (const std::string& text :
       {std::string("not json"), std::string("{}"), std::string(R"({"version": 2, "files": {}})"),
        std::string(R"({"version": 1, "files": {"x": {"checksum": 3}}})"),
        std::string(R"({"version": 1, "files": 3})")}) {
    write_raw(folder / "cache.json", text);
    ContentsCache cache(folder / "cache.json");
    EXPECT_FALSE(cache.find(files)) << text;
    cache.add(files, {"0123", 255}, kLater);
    cache.save();
    EXPECT_TRUE(ContentsCache(folder / "cache.json").find(files)) << text;
  }
}

}  // namespace
}  // namespace depthroute
