// Many token shards read as one stream (train/model/SPEC.md §4): llm.c's shards and Megatron-LM's indexed
// datasets. They are memory-mapped; nothing is copied until read().
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "configs/base/regular_file.h"
#include "data/tokens/shard_manifest.h"

namespace depthroute {

/// llm.c's .bin: 256 int32 header words, then uint16 (magic 20240520, version 1) or uint32 (20240801, version
/// 7).
inline constexpr int32_t kShardMagic16 = 20240520, kShardVersion16 = 1;
inline constexpr int32_t kShardMagic32 = 20240801, kShardVersion32 = 7;
inline constexpr int64_t kShardHeaderBytes = 1024;

/// Prefix of every fingerprint(): earlier versions looked at the ends of shards only and wrote plain hex.
inline constexpr const char* kFingerprintKind = "contents-";

struct ShardInfo {
  std::string path;  // as given; of a Megatron-LM dataset the .idx
  int64_t num_tokens = 0;
  int token_bytes = 2;  // 1, 2, 4 or 8
};

/// A file that a shard is read from, and what it was when it was opened.
struct ShardFile {
  std::string path;
  FileIdentity identity;
};

/// What is known after reading every byte of a shard.
struct ShardContents {
  std::string checksum;       // hash_file(); of a Megatron-LM dataset, of its .idx followed by its .bin
  int64_t largest_token = 0;  // 0 if there are no tokens, INT64_MAX if one is negative
  bool operator==(const ShardContents&) const = default;
};

class TokenStream {
 public:
  /// Paths may hold * and ? (expanded, sorted); a pattern that matches nothing is an error. A Megatron-LM dataset
  /// is named by its .idx. Checks magic, version and count against file size of every shard, and every entry of an
  /// .idx, now, and what manifests beside the shards list (read_stream_manifest()). Throws DataError naming file,
  /// what is wrong and what to do.
  TokenStream(const std::vector<std::string>& patterns, int64_t vocab_size);
  ~TokenStream();
  TokenStream(TokenStream&&) noexcept;

  int64_t num_tokens() const;
  const std::vector<ShardInfo>& shards() const;
  const StreamManifest& manifest() const;
  /// Tokens [begin, begin + out.size()) of the stream. Throws DataError naming the shard and position of a
  /// token outside [0, vocab_size).
  void read(int64_t begin, std::span<int32_t> out) const;
  /// Samples of T+1 tokens with stride T (train/model/SPEC.md §3): floor((num_tokens - 1) / T).
  int64_t num_samples(int64_t seq_len) const;
  /// Whether all shards say where their documents begin, as Megatron-LM datasets do.
  bool knows_documents() const;
  /// The first position, at least `position`, that a document begins at; num_tokens() if there is none. Only
  /// if knows_documents(), like the next.
  int64_t next_document(int64_t position) const;
  /// Where the document begins that holds the token at `position`.
  int64_t document_of(int64_t position) const;
  /// Hash over counts, widths and the first and last 64 KiB of all shards, as hex: a cheap check whether
  /// ranks have the same files. Says nothing about the bytes between.
  std::string outline() const;
  /// Reads all of shard `index` as it is mapped, about as fast as the disk allows. `between_chunks` is called
  /// every few MiB; what it throws ends the reading.
  ShardContents read_contents(size_t index, const std::function<void()>& between_chunks = {}) const;
  /// Throws DataError naming the first token of shard `index` outside [0, vocab_size), if there is one, or if
  /// a manifest lists another checksum.
  void check_contents(size_t index, const ShardContents& contents) const;
  /// What shard `index` is read from: one file, or an .idx and its .bin.
  std::vector<ShardFile> files(size_t index) const;
  /// Changes when a shard is added, removed, reordered or any of its bytes is changed: XXH3 (hex) over token
  /// counts, widths and checksums. Independent of the shards' folder and names.
  std::string fingerprint(std::span<const ShardContents> contents) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Writes one shard as tokens arrive; visible under `path` only after close(). Width from vocab_size (uint16
/// up to 65536). Throws SystemError when writing fails.
class ShardWriter {
 public:
  ShardWriter(const std::string& path, int64_t vocab_size);
  ~ShardWriter();  // without close(): nothing is left behind
  void append(std::span<const int32_t> tokens);
  void close();
  int64_t num_tokens() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace depthroute
