// NAME.shards.json: what a set of token shards is, written beside them by the program that made them and read
// wherever they are (tools/README.md has its keys). Shards of other programs have none, which is no error.
//
// The tokenizer of a set, its tokenizer.json, lies in the same folder: StreamManifest::tokenizer->file.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace depthroute {

struct ShardInfo;

inline constexpr const char* kManifestEnd = ".shards.json";
inline constexpr const char* kValidationName = "val";  // val.bin, or val_000.bin ...

struct TokenFile {
  std::string path;  // plain name
  int64_t tokens = 0;
  std::string checksum;  // hash_file(): XXH3-128, hex
};

/// Which tokenizer made the tokens. Two are the same if their checksums are, or, without any, their names.
struct TokenizerIdentity {
  std::string name;      // for people: "Qwen3-0.6B-Base", "bytes"
  std::string checksum;  // hash_file() of its tokenizer.json; "" if there is none
  std::string file;  // in a ShardManifest its plain name, in a StreamManifest its path; "" if there is none

  std::string describe() const;  // for messages: name (checksum)
  bool same_as(const TokenizerIdentity& other) const {
    return checksum == other.checksum && (!checksum.empty() || name == other.name);
  }
};

/// What tokens were made from, as recorded: nothing here is looked up again.
struct TokenSource {
  std::string path;
  int64_t size = 0;  // bytes
  std::string checksum;
};

struct ShardManifest {
  std::string name;
  int64_t vocab_size = 0;  // every token is below it
  int token_bytes = 0;     // 2 or 4
  std::optional<TokenizerIdentity> tokenizer;
  std::optional<int64_t> separator;  // the token that ends every document
  std::optional<int64_t> documents;
  std::vector<TokenSource> sources;
  std::vector<TokenFile> files;  // in the order of the text

  int64_t tokens() const;
};

std::string shard_manifest_name(const std::string& name);  // NAME.shards.json
/// Whether `file` is NAME.bin or NAME_<digits>.bin.
bool is_shard_of(const std::string& file, const std::string& name);
void write_shard_manifest(const std::string& folder, const ShardManifest& manifest);
/// DataError if it is damaged, contradicts itself, or lists a file that no set of its name can have.
ShardManifest read_shard_manifest(const std::string& path);

/// What the manifests beside the shards of one stream say of all of it.
struct StreamManifest {
  struct Listed {
    std::string manifest;  // its path; "" if no manifest lists the shard
    std::string checksum;
  };
  std::vector<Listed> shards;  // by index in the stream
  /// Of all listed shards; none if no manifest names one.
  std::optional<TokenizerIdentity> tokenizer;
  /// If every shard is listed with it.
  std::optional<int64_t> separator;

  /// DataError if shard `index` was read and has another checksum than is listed.
  void check(size_t index, const std::string& path, const std::string& checksum) const;
};

/// Finds and reads the manifests that list `shards`. DataError naming the manifest if its vocabulary is larger
/// than `vocab_size`, if a shard has another number or width of tokens than is listed, if two manifests list
/// one shard, or if the shards are of different tokenizers.
StreamManifest read_stream_manifest(std::span<const ShardInfo> shards, int64_t vocab_size);

}  // namespace depthroute
