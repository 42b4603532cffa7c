#include "data/tokens/token_stream.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <type_traits>

#include "configs/base/check.h"
#include "configs/base/error.h"
#include "data/files.h"
#include "data/tokens/shard_format.h"

namespace depthroute {
namespace {

static_assert(std::endian::native == std::endian::little, "shards are little-endian and read in place");

constexpr size_t kEdgeBytes = 64 * 1024;
constexpr size_t kScanChunkBytes = size_t{4} << 20;  // a multiple of every token's size

struct Shard {
  OpenShard open;
  ShardInfo info;
  int64_t begin;  // of its first token in the stream

  std::span<const std::byte> tokens() const {
    return open.file.bytes().subspan(static_cast<size_t>(open.tokens_at));
  }
};

/// The largest of some tokens, given the largest of their bits. A negative token is larger than any
/// vocabulary.
template <typename Token>
int64_t largest_token(std::make_unsigned_t<Token> largest_bits) {
  constexpr auto kMost = static_cast<std::make_unsigned_t<Token>>(std::numeric_limits<Token>::max());
  return largest_bits > kMost ? std::numeric_limits<int64_t>::max() : static_cast<int64_t>(largest_bits);
}

template <typename Token>
void copy_tokens(const Shard& shard, int64_t offset, std::span<int32_t> out, int64_t vocab_size) {
  using Bits = std::make_unsigned_t<Token>;
  // Where tokens begin is a multiple of their size, and maps start on a page: aligned.
  const auto* tokens = reinterpret_cast<const Token*>(shard.tokens().data()) + offset;
  Bits largest = 0;
  for (size_t i = 0; i < out.size(); ++i) {
    largest = std::max(largest, static_cast<Bits>(tokens[i]));
    out[i] = static_cast<int32_t>(tokens[i]);
  }
  if (largest_token<Token>(largest) < vocab_size) return;
  size_t bad = 0;
  while (largest_token<Token>(static_cast<Bits>(tokens[bad])) < vocab_size) ++bad;
  throw DataError(
      "{}: token {} (of {}) is {}, outside the vocabulary of {}; tokenise with this model's tokenizer or "
      "set model.vocab_size",
      shard.info.path, offset + static_cast<int64_t>(bad), shard.info.num_tokens, tokens[bad], vocab_size);
}

template <typename Token>
int64_t largest_of(std::span<const std::byte> bytes) {
  const std::span tokens(reinterpret_cast<const Token*>(bytes.data()), bytes.size() / sizeof(Token));
  std::make_unsigned_t<Token> largest = 0;
  for (const Token token : tokens) largest = std::max(largest, static_cast<decltype(largest)>(token));
  return largest_token<Token>(largest);
}

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span<const char>(text));
}

}  // namespace

struct TokenStream::Impl {
  std::vector<Shard> shards;
  std::vector<ShardInfo> infos;
  StreamManifest manifest;
  int64_t num_tokens = 0;
  int64_t vocab_size = 0;
  bool knows_documents = true;

  /// The shard that holds the token at `position`; the last one for the end of the stream.
  std::vector<Shard>::const_iterator shard_of(int64_t position) const {
    const auto next = std::upper_bound(shards.begin(), shards.end(), position,
                                       [](int64_t at, const Shard& shard) { return at < shard.begin; });
    return next == shards.begin() ? next : next - 1;
  }
};

TokenStream::TokenStream(const std::vector<std::string>& patterns, int64_t vocab_size)
    : impl_(std::make_unique<Impl>()) {
  DR_CHECK(vocab_size >= 1 && vocab_size <= int64_t{1} << 31);
  impl_->vocab_size = vocab_size;
  for (const std::string& path : expand_patterns(patterns)) {
    OpenShard open = open_shard(path);
    const ShardInfo info = {path, open.num_tokens, depthroute::bytes_of(open.type)};
    impl_->knows_documents = impl_->knows_documents && open.index.has_value();
    impl_->shards.push_back({std::move(open), info, impl_->num_tokens});
    impl_->infos.push_back(info);
    impl_->num_tokens += info.num_tokens;
  }
  impl_->manifest = read_stream_manifest(impl_->infos, vocab_size);
}

TokenStream::~TokenStream() = default;
TokenStream::TokenStream(TokenStream&&) noexcept = default;

int64_t TokenStream::num_tokens() const { return impl_->num_tokens; }
const std::vector<ShardInfo>& TokenStream::shards() const { return impl_->infos; }
const StreamManifest& TokenStream::manifest() const { return impl_->manifest; }

void TokenStream::read(int64_t begin, std::span<int32_t> out) const {
  DR_CHECK(begin >= 0 && static_cast<int64_t>(out.size()) <= impl_->num_tokens - begin);
  for (auto shard = impl_->shard_of(begin); !out.empty(); ++shard) {
    const int64_t offset = begin - shard->begin;
    const int64_t count = std::min(static_cast<int64_t>(out.size()), shard->info.num_tokens - offset);
    const std::span<int32_t> part = out.first(static_cast<size_t>(count));
    with_token_type(shard->open.type, [&](auto token) {
      copy_tokens<decltype(token)>(*shard, offset, part, impl_->vocab_size);
    });
    out = out.subspan(static_cast<size_t>(count));
    begin += count;
  }
}

int64_t TokenStream::num_samples(int64_t seq_len) const {
  DR_CHECK(seq_len >= 1);
  return impl_->num_tokens < 1 ? 0 : (impl_->num_tokens - 1) / seq_len;
}

bool TokenStream::knows_documents() const { return impl_->knows_documents; }

int64_t TokenStream::next_document(int64_t position) const {
  DR_CHECK(impl_->knows_documents && position >= 0 && position <= impl_->num_tokens);
  for (auto shard = impl_->shard_of(position); shard != impl_->shards.end(); ++shard) {
    const int64_t start = shard->open.index->next_document(std::max<int64_t>(0, position - shard->begin));
    if (start < shard->info.num_tokens) return shard->begin + start;
  }
  return impl_->num_tokens;
}

int64_t TokenStream::document_of(int64_t position) const {
  DR_CHECK(impl_->knows_documents && position >= 0 && position < impl_->num_tokens);
  const auto shard = impl_->shard_of(position);
  return shard->begin + shard->open.index->document_of(position - shard->begin);
}

std::string TokenStream::outline() const {
  std::string text;
  const auto ends = [](std::span<const std::byte> bytes) {
    const size_t edge = std::min(bytes.size(), kEdgeBytes);
    return fmt::format("{} {}", hash_bytes(bytes.first(edge)), hash_bytes(bytes.last(edge)));
  };
  for (const Shard& shard : impl_->shards) {
    text += fmt::format("{} x {} {}", shard.info.num_tokens, shard.info.token_bytes,
                        ends(shard.open.file.bytes()));
    if (shard.open.index) text += " " + ends(shard.open.index->file().bytes());
    text += "\n";
  }
  return hash_bytes(bytes_of(text));
}

ShardContents TokenStream::read_contents(size_t index, const std::function<void()>& between_chunks) const {
  const Shard& shard = impl_->shards.at(index);
  Hasher hasher;
  if (shard.open.index) hasher.update(shard.open.index->file().bytes());
  hasher.update(shard.open.file.bytes().first(static_cast<size_t>(shard.open.tokens_at)));
  int64_t largest = 0;
  for (std::span<const std::byte> rest = shard.tokens(); !rest.empty();) {
    const auto chunk = rest.first(std::min(rest.size(), kScanChunkBytes));
    hasher.update(chunk);
    largest = std::max(largest, with_token_type(shard.open.type, [&](auto token) {
                         return largest_of<decltype(token)>(chunk);
                       }));
    if (between_chunks) between_chunks();
    rest = rest.subspan(chunk.size());
  }
  return {hasher.hex(), largest};
}

void TokenStream::check_contents(size_t index, const ShardContents& contents) const {
  impl_->manifest.check(index, impl_->infos.at(index).path, contents.checksum);
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

std::vector<ShardFile> TokenStream::files(size_t index) const {
  const OpenShard& open = impl_->shards.at(index).open;
  std::vector<ShardFile> files;
  if (open.index) files.push_back({impl_->infos[index].path, open.index->file().identity()});
  files.push_back({open.file_path, open.file.identity()});
  return files;
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
