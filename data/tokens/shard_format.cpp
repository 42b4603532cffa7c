#include "data/tokens/shard_format.h"

#include <cstring>

#include "configs/base/error.h"
#include "data/tokens/token_stream.h"

namespace depthroute {
namespace {

constexpr int kHeaderWords = static_cast<int>(kShardHeaderBytes / 4);

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

bool has_llmc_magic(const MappedFile& file) {
  int32_t magic = 0;
  if (file.size() < static_cast<int64_t>(sizeof(magic))) return false;
  std::memcpy(&magic, file.bytes().data(), sizeof(magic));
  return magic == kShardMagic16 || magic == kShardMagic32;
}

OpenShard open_llmc_shard(const std::string& path, MappedFile file) {
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
  return {std::move(file),
          kShardHeaderBytes,
          bytes == 2 ? TokenType::uint16 : TokenType::uint32,
          count,
          path,
          {}};
}

OpenShard open_megatron_dataset(const std::string& path, MappedFile file) {
  const std::string bin = megatron_bin_path(path);
  MegatronIndex index(path, std::move(file));
  MappedFile tokens(bin);
  const int bytes = bytes_of(index.type());
  const int64_t needed = index.num_tokens() * bytes;
  if (tokens.size() < needed)
    throw DataError(
        "{}: {} says {} tokens of {} bytes, but it holds {}; it is truncated or still being written: make both "
        "again",
        bin, path, index.num_tokens(), bytes, tokens.size() / bytes);
  if (tokens.size() > needed)
    throw DataError(
        "{}: {} says {} tokens of {} bytes, but it holds {} bytes; the two belong to different datasets, or the "
        "index was written too early: make both again",
        bin, path, index.num_tokens(), bytes, tokens.size());
  const TokenType type = index.type();
  const int64_t count = index.num_tokens();
  return {std::move(tokens), 0, type, count, bin, std::move(index)};
}

/// The index of the Megatron-LM dataset that `path` is the prefix or the .bin of; "" if there is none.
std::string index_beside(const std::string& path) {
  constexpr std::string_view kBin = ".bin";
  const std::string prefix = path.ends_with(kBin) ? path.substr(0, path.size() - kBin.size()) : path;
  return exists(prefix + ".idx") ? prefix + ".idx" : "";
}

}  // namespace

OpenShard open_shard(const std::string& path) {
  if (!exists(path))
    if (const std::string index = index_beside(path); !index.empty())
      throw DataError("{}: there is no such file; a Megatron-LM dataset is named by its index: {}", path,
                      index);
  MappedFile file(path);
  if (MegatronIndex::starts(file.bytes())) return open_megatron_dataset(path, std::move(file));
  if (!has_llmc_magic(file))
    if (const std::string index = index_beside(path); index != path && !index.empty())
      throw DataError("{}: is no token shard by itself; a Megatron-LM dataset is named by its index: {}",
                      path, index);
  return open_llmc_shard(path, std::move(file));
}

}  // namespace depthroute
