#include "data/tokens/token_stream.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "configs/base/check.h"
#include "configs/base/error.h"
#include "data/files.h"

namespace depthroute {
namespace {

static_assert(std::endian::native == std::endian::little, "shards are little-endian and read in place");

constexpr int kHeaderWords = static_cast<int>(kShardHeaderBytes / 4);
constexpr size_t kEdgeBytes = 64 * 1024;
constexpr size_t kScanChunkBytes = size_t{4} << 20;  // a multiple of every token's size

struct Shard {
  MappedFile file;
  ShardInfo info;
  int64_t begin;  // of its first token in the stream
};

/// What a file is that is not a token shard, if its first word tells; llm.c's other magics.
const char* known_format(int32_t magic) {
  switch (magic) {
    case 20240326:
      return "an llm.c model";
    case 20240327:
      return "an llm.c debug state";
    case 20240328:
      return "an llm.c tokenizer";
    case 20240522:
      return "an llm.c evaluation file";
    case 0x2e4e4942:
      return "an llmq token file";  // "BIN."
    case 0x44494d4d:
      return "a Megatron-LM index file";  // "MMID"
    default:
      return nullptr;
  }
}

[[noreturn]] void fail_magic(const std::string& path, int32_t magic) {
  const char* format = known_format(magic);
  throw DataError(
      "{}: {}{}, not a token shard (magic {} or {}); convert it, or make it again with depthroute-tokenize",
      path, format != nullptr ? "is " : "starts with the word ",
      format != nullptr ? std::string(format) : std::to_string(magic), kShardMagic16, kShardMagic32);
}

/// Checks everything the header claims against the file.
ShardInfo check_shard(const std::string& path, const MappedFile& file) {
  if (file.size() < kShardHeaderBytes)
    throw DataError(
        "{}: {} bytes are too few for a token shard's header of {}; it is truncated or not a shard: "
        "make it again",
        path, file.size(), kShardHeaderBytes);
  int32_t header[kHeaderWords];
  std::memcpy(header, file.bytes().data(), sizeof(header));
  const int32_t magic = header[0], version = header[1], count = header[2];
  if (magic != kShardMagic16 && magic != kShardMagic32) fail_magic(path, magic);
  const int32_t expected = magic == kShardMagic16 ? kShardVersion16 : kShardVersion32;
  if (version != expected)
    throw DataError("{}: version {} of a token shard with magic {}; only version {} is known: make it again",
                    path, version, magic, expected);
  if (count < 0)
    throw DataError("{}: header says {} tokens; the header is damaged: make it again", path, count);
  for (int word = 3; word < kHeaderWords; ++word)
    if (header[word] != 0)
      throw DataError(
          "{}: header word {} is {}, where llm.c's format has 0; the header is damaged: make it again", path,
          word, header[word]);
  const int bytes = magic == kShardMagic16 ? 2 : 4;
  const int64_t held = file.size() - kShardHeaderBytes;
  if (held < int64_t{count} * bytes)
    throw DataError(
        "{}: header says {} tokens of {} bytes, but the file holds {} after its header; it is truncated or "
        "still being written: make it again",
        path, count, bytes, held / bytes);
  if (held > int64_t{count} * bytes)
    throw DataError(
        "{}: header says {} tokens of {} bytes, but {} bytes follow its header; count and contents "
        "disagree: make it again",
        path, count, bytes, held);
  return {path, count, bytes};
}

template <typename Token>
void copy_tokens(const Shard& shard, int64_t offset, std::span<int32_t> out, int64_t vocab_size) {
  // The header is a multiple of the token's size and maps start on a page: aligned.
  const auto* tokens = reinterpret_cast<const Token*>(shard.file.bytes().data() + kShardHeaderBytes) + offset;
  uint32_t largest = 0;
  for (size_t i = 0; i < out.size(); ++i) {
    const uint32_t token = tokens[i];
    largest = std::max(largest, token);
    out[i] = static_cast<int32_t>(token);
  }
  if (int64_t{largest} < vocab_size) return;
  size_t bad = 0;
  while (int64_t{tokens[bad]} < vocab_size) ++bad;
  throw DataError(
      "{}: token {} (of {}) is {}, outside the vocabulary of {}; tokenise with this model's tokenizer or "
      "set model.vocab_size",
      shard.info.path, offset + static_cast<int64_t>(bad), shard.info.num_tokens, tokens[bad], vocab_size);
}

template <typename Token>
uint32_t largest_of(std::span<const std::byte> bytes) {
  const std::span tokens(reinterpret_cast<const Token*>(bytes.data()), bytes.size() / sizeof(Token));
  Token largest = 0;
  for (const Token token : tokens) largest = std::max(largest, token);
  return largest;
}

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span<const char>(text));
}

}  // namespace

struct TokenStream::Impl {
  std::vector<Shard> shards;
  std::vector<ShardInfo> infos;
  int64_t num_tokens = 0;
  int64_t vocab_size = 0;
};

TokenStream::TokenStream(const std::vector<std::string>& patterns, int64_t vocab_size)
    : impl_(std::make_unique<Impl>()) {
  DR_CHECK(vocab_size >= 1 && vocab_size <= int64_t{1} << 31);
  impl_->vocab_size = vocab_size;
  for (const std::string& path : expand_patterns(patterns)) {
    MappedFile file(path);
    const ShardInfo info = check_shard(path, file);
    impl_->shards.push_back({std::move(file), info, impl_->num_tokens});
    impl_->infos.push_back(info);
    impl_->num_tokens += info.num_tokens;
  }
}

TokenStream::~TokenStream() = default;
TokenStream::TokenStream(TokenStream&&) noexcept = default;

int64_t TokenStream::num_tokens() const { return impl_->num_tokens; }
const std::vector<ShardInfo>& TokenStream::shards() const { return impl_->infos; }

void TokenStream::read(int64_t begin, std::span<int32_t> out) const {
  DR_CHECK(begin >= 0 && static_cast<int64_t>(out.size()) <= impl_->num_tokens - begin);
  const auto& shards = impl_->shards;
  auto shard = std::upper_bound(shards.begin(), shards.end(), begin,
                                [](int64_t position, const Shard& next) { return position < next.begin; });
  if (shard != shards.begin()) --shard;
  for (; !out.empty(); ++shard) {
    const int64_t offset = begin - shard->begin;
    const int64_t count = std::min(static_cast<int64_t>(out.size()), shard->info.num_tokens - offset);
    const std::span<int32_t> part = out.first(static_cast<size_t>(count));
    if (shard->info.token_bytes == 2)
      copy_tokens<uint16_t>(*shard, offset, part, impl_->vocab_size);
    else
      copy_tokens<uint32_t>(*shard, offset, part, impl_->vocab_size);
    out = out.subspan(static_cast<size_t>(count));
    begin += count;
  }
}

int64_t TokenStream::num_samples(int64_t seq_len) const {
  DR_CHECK(seq_len >= 1);
  return impl_->num_tokens < 1 ? 0 : (impl_->num_tokens - 1) / seq_len;
}

std::string TokenStream::outline() const {
  std::string text;
  for (const Shard& shard : impl_->shards) {
    const std::span<const std::byte> bytes = shard.file.bytes();
    const size_t edge = std::min(bytes.size(), kEdgeBytes);
    text += fmt::format("{} x {} {} {}\n", shard.info.num_tokens, shard.info.token_bytes,
                        hash_bytes(bytes.first(edge)), hash_bytes(bytes.last(edge)));
  }
  return hash_bytes(bytes_of(text));
}

ShardContents TokenStream::read_contents(size_t index, const std::function<void()>& between_chunks) const {
  const Shard& shard = impl_->shards.at(index);
  ShardContents contents;
  Hasher hasher;
  const std::span<const std::byte> bytes = shard.file.bytes();
  hasher.update(bytes.first(static_cast<size_t>(kShardHeaderBytes)));
  uint32_t largest = 0;
  for (auto rest = bytes.subspan(static_cast<size_t>(kShardHeaderBytes)); !rest.empty();) {
    const auto chunk = rest.first(std::min(rest.size(), kScanChunkBytes));
    hasher.update(chunk);
    largest = std::max(
        largest, shard.info.token_bytes == 2 ? largest_of<uint16_t>(chunk) : largest_of<uint32_t>(chunk));
    if (between_chunks) between_chunks();
    rest = rest.subspan(chunk.size());
  }
  return {hasher.hex(), int64_t{largest}};
}

void TokenStream::check_vocabulary(size_t index, const ShardContents& contents) const {
  if (contents.largest_token < impl_->vocab_size) return;
  const Shard& shard = impl_->shards.at(index);
  std::vector<int32_t> tokens(
      static_cast<size_t>(std::min(shard.info.num_tokens, static_cast<int64_t>(kScanChunkBytes))));
  for (int64_t at = 0; at < shard.info.num_tokens;) {  // read() names the token
    const int64_t count = std::min(static_cast<int64_t>(tokens.size()), shard.info.num_tokens - at);
    read(shard.begin + at, std::span(tokens).first(static_cast<size_t>(count)));
    at += count;
  }
}

const FileIdentity& TokenStream::identity(size_t index) const {
  return impl_->shards.at(index).file.identity();
}

std::string TokenStream::fingerprint(std::span<const ShardContents> contents) const {
  DR_CHECK(contents.size() == impl_->infos.size());
  std::string text;
  for (size_t i = 0; i < contents.size(); ++i)
    text += fmt::format("{} x {} {}\n", impl_->infos[i].num_tokens, impl_->infos[i].token_bytes,
                        contents[i].checksum);
  return kFingerprintKind + hash_bytes(bytes_of(text));
}

}  // namespace depthroute
