#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>

#include "configs/base/error.h"
#include "data/atomic_path.h"
#include "data/files.h"
#include "data/tokens/shard_manifest.h"
#include "data/tokens/token_stream.h"
#include "tests/support/temp_folder.h"

namespace depthroute {
namespace {

using nlohmann::json;

const TokenizerIdentity kBytes{"bytes", "", ""}, kBpe{"small", "0123", "tokenizer.json"};

/// The DataError's text; "" if there is none.
std::string refusal_of(const std::function<void()>& action) {
  try {
    action();
    return "";
  } catch (const DataError& error) {
    return error.what();
  }
}

class ShardManifestTest : public testing::Test {
 protected:
  ShardManifestTest() {
    for (const char* folder : {"a", "b"}) std::filesystem::create_directory(folder_ / folder);
  }

  std::string write_shard(const std::string& name, int64_t tokens = 100) const {
    ShardWriter writer(folder_ / name, 256);
    std::vector<int32_t> values(static_cast<size_t>(tokens));
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<int32_t>(i % 251);
    writer.append(values);
    writer.close();
    return folder_ / name;
  }
  /// The manifest of `names` in a folder, as their files are.
  ShardManifest describe(const std::string& folder, const std::vector<std::string>& names,
                         const TokenizerIdentity& tokenizer = kBpe,
                         std::optional<int64_t> separator = 7) const {
    ShardManifest manifest{.name = "train", .vocab_size = 200, .token_bytes = 2};
    manifest.tokenizer = tokenizer;
    manifest.separator = separator;
    for (const std::string& name : names) {
      const std::string path = folder_ / (folder + "/" + name);
      manifest.files.push_back({name, TokenStream({path}, 256).num_tokens(), hash_file(path)});
    }
    return manifest;
  }
  void write(const std::string& folder, const ShardManifest& manifest) const {
    write_shard_manifest(folder_ / folder, manifest);
  }
  std::string refusal(const std::vector<std::string>& names, int64_t vocab_size = 256) const {
    std::vector<std::string> paths;
    for (const std::string& name : names) paths.push_back(folder_ / name);
    return refusal_of([&] {
      const TokenStream stream(paths, vocab_size);
      for (size_t i = 0; i < stream.shards().size(); ++i) stream.check_contents(i, stream.read_contents(i));
    });
  }

  const TempFolder folder_;
};

TEST_F(ShardManifestTest, IsReadAsItWasWritten) {
  write_shard("a/train_000.bin");
  write_shard("a/val.bin", 10);
  ShardManifest manifest = describe("a", {"train_000.bin", "val.bin"});
  manifest.documents = 5;
  manifest.sources = {{"text/é \xff.txt", 12, "abc"}};
  write("a", manifest);
  const ShardManifest back = read_shard_manifest(folder_ / "a/train.shards.json");
  EXPECT_EQ(back.name, "train");
  EXPECT_EQ(back.vocab_size, 200);
  EXPECT_EQ(back.token_bytes, 2);
  EXPECT_TRUE(back.tokenizer->same_as(kBpe));
  EXPECT_EQ(back.tokenizer->file, "tokenizer.json");
  EXPECT_EQ(back.separator, 7);
  EXPECT_EQ(back.documents, 5);
  EXPECT_EQ(back.sources.at(0).path, "text/é \xef\xbf\xbd.txt");
  EXPECT_EQ(back.tokens(), 110);
  EXPECT_EQ(back.files.at(1).checksum, manifest.files[1].checksum);
}

TEST_F(ShardManifestTest, EarlierVersionsKnewLess) {
  write_file_atomically(folder_ / "a/t.shards.json",
                        R"({"kind": "depthroute token shards", "version": 1, "name": "t", "vocab_size": 256,
                            "token_bytes": 2, "files": [{"path": "t.bin", "tokens": 3, "checksum": "x"}]})");
  const ShardManifest manifest = read_shard_manifest(folder_ / "a/t.shards.json");
  EXPECT_FALSE(manifest.tokenizer || manifest.separator || manifest.documents);
}

TEST_F(ShardManifestTest, DamagedOnesAreRefusedByTheirKey) {
  write_shard("a/train.bin");
  write("a", describe("a", {"train.bin"}));
  const std::string path = folder_ / "a/train.shards.json";
  const json good = json::parse(read_file(path));
  const auto message = [&](const std::function<void(json&)>& change) {
    json root = good;
    change(root);
    write_file_atomically(path, root.dump());
    return refusal_of([&] { (void)read_shard_manifest(path); });
  };
  EXPECT_EQ(message([](json&) {}), "");
  const std::vector<std::pair<std::string, std::function<void(json&)>>> cases = {
      {"is not the manifest of", [](json& r) { r["kind"] = "x"; }},
      {"version 2 is unknown", [](json& r) { r["version"] = 2; }},
      {"\"version\" is 1.5", [](json& r) { r["version"] = 1.5; }},
      {"is the manifest of \"other.shards.json\"", [](json& r) { r["name"] = "other"; }},
      {"\"vocab_size\" is missing", [](json& r) { r.erase("vocab_size"); }},
      {"\"vocab_size\" is 0, not an integer from 1 to", [](json& r) { r["vocab_size"] = 0; }},
      {"\"vocab_size\" is 18446744073709551615", [](json& r) { r["vocab_size"] = UINT64_MAX; }},
      {"\"token_bytes\" is 3", [](json& r) { r["token_bytes"] = 3; }},
      {"\"separator\" is 200, not an integer from 0 to 199", [](json& r) { r["separator"] = 200; }},
      {"\"tokenizer\" has only one of", [](json& r) { r["tokenizer"].erase("path"); }},
      {"has the path \"../t.json\"", [](json& r) { r["tokenizer"]["path"] = "../t.json"; }},
      {"holds [], not an object", [](json& r) { r["tokenizer"] = json::array(); }},
      {"\"files\" is {}, not a list", [](json& r) { r["files"] = json::object(); }},
      {"lists \"train.bin\" twice", [](json& r) { r["files"].push_back(r["files"][0]); }},
      {"lists \"notes.txt\", which is no shard", [](json& r) { r["files"][0]["path"] = "notes.txt"; }},
      {"lists \"../train.bin\"", [](json& r) { r["files"][0]["path"] = "../train.bin"; }},
      {"\"tokens\" is -1", [](json& r) { r["files"][0]["tokens"] = -1; }},
      {"\"tokens\" is 101, but the files have 100", [](json& r) { r["tokens"] = 101; }},
      {"\"sources\" is 1, not a list", [](json& r) { r["sources"] = 1; }},
  };
  for (const auto& [part, change] : cases) {
    const std::string said = message(change);
    EXPECT_TRUE(has(said, part)) << "\"" << part << "\" is not in: " << said;
    EXPECT_TRUE(has(said, path)) << said;
    EXPECT_FALSE(refusal({"a/train.bin"}).empty()) << part;  // also where only a shard beside it is named
  }
}

TEST_F(ShardManifestTest, AStreamIsWhatItsManifestsSay) {
  write_shard("a/train_000.bin");
  write_shard("a/train_001.bin", 50);
  write("a", describe("a", {"train_000.bin", "train_001.bin"}));
  const TokenStream stream({folder_ / "a/train_*.bin"}, 200);
  ASSERT_TRUE(stream.manifest().tokenizer);
  EXPECT_EQ(stream.manifest().tokenizer->file, folder_ / "a/tokenizer.json");
  EXPECT_EQ(stream.manifest().separator, 7);

  EXPECT_TRUE(has(refusal({"a/train_000.bin"}, 199),
                  "its tokenizer small (0123) has 200 tokens, more than the "
                  "model's vocabulary of 199"));
  write_shard("a/train_001.bin", 51);
  EXPECT_TRUE(has(refusal({"a/train_001.bin"}), "holds 51 tokens of 2 bytes, but"));
  EXPECT_EQ(refusal({"a/train_000.bin"}), "");
  // The same length and another token.
  std::string bytes = read_file(folder_ / "a/train_000.bin");
  bytes[1024] ^= 1;
  write_file_atomically(folder_ / "a/train_000.bin", bytes);
  EXPECT_TRUE(has(refusal({"a/train_000.bin"}), "train_000.bin: its checksum is"));
}

TEST_F(ShardManifestTest, WithoutAManifestNothingIsKnown) {
  write_shard("a/other.bin");
  write_shard("a/train.bin");
  EXPECT_EQ(refusal({"a/other.bin", "a/train.bin"}), "");
  write("a", describe("a", {"train.bin"}));
  const TokenStream partly({folder_ / "a/other.bin", folder_ / "a/train.bin"}, 256);
  EXPECT_TRUE(partly.manifest().tokenizer);   // of what is listed
  EXPECT_FALSE(partly.manifest().separator);  // it may not end the other's documents
  EXPECT_TRUE(partly.manifest().shards.at(0).manifest.empty());
  EXPECT_FALSE(TokenStream({folder_ / "a/other.bin"}, 256).manifest().tokenizer);
}

TEST_F(ShardManifestTest, TokenizersAreNotMixed) {
  const auto message = [&](const TokenizerIdentity& first, const TokenizerIdentity& second) {
    for (const char* folder : {"a", "b"}) {
      write_shard(std::string(folder) + "/train.bin");
      write(folder, describe(folder, {"train.bin"}, folder[0] == 'a' ? first : second));
    }
    return refusal({"a/train.bin", "b/train.bin"});
  };
  EXPECT_EQ(message(kBpe, kBpe), "");
  EXPECT_EQ(message(kBytes, kBytes), "");
  EXPECT_EQ(message(kBpe, {"called otherwise", "0123", "t.json"}), "");
  EXPECT_TRUE(has(message(kBpe, kBytes), "its tokens are of bytes, those of"));
  EXPECT_TRUE(has(message(kBpe, {"small", "4567", "t.json"}), "of small (4567), those of"));
}

TEST_F(ShardManifestTest, SeparatorsThatDifferAreNone) {
  for (const char* folder : {"a", "b"}) {
    write_shard(std::string(folder) + "/train.bin");
    write(folder, describe(folder, {"train.bin"}, kBpe, folder[0] == 'a' ? 7 : 8));
  }
  EXPECT_FALSE(TokenStream({folder_ / "a/train.bin", folder_ / "b/train.bin"}, 256).manifest().separator);
  write("b", describe("b", {"train.bin"}, kBpe, std::nullopt));
  EXPECT_FALSE(TokenStream({folder_ / "a/train.bin", folder_ / "b/train.bin"}, 256).manifest().separator);
}

TEST_F(ShardManifestTest, AShardOfTwoSetsIsRefused) {
  write_shard("a/train.bin");
  write_shard("a/val.bin");
  ShardManifest manifest = describe("a", {"train.bin", "val.bin"});
  write("a", manifest);
  manifest.name = "more";
  manifest.files.erase(manifest.files.begin());
  write("a", manifest);
  EXPECT_EQ(refusal({"a/train.bin"}), "");
  EXPECT_TRUE(has(refusal({"a/val.bin"}), "is listed in"));
}

}  // namespace
}  // namespace depthroute
