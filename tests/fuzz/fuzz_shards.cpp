// Any bytes as a token shard: refused with an InputError of one line, or every token is in range and reads
// the same in pieces that cross from shard to shard.
#include <algorithm>
#include <cstring>
#include <vector>

#include "configs/base/check.h"
#include "configs/base/error.h"
#include "data/tokens/token_stream.h"
#include "tests/fuzz/memory_file.h"

namespace {

constexpr int64_t kVocabSize = 50000;

void read_all(const std::string& path) {
  const depthroute::TokenStream stream({path, path}, kVocabSize);
  DR_CHECK(stream.num_tokens() == 2 * stream.shards()[0].num_tokens);
  const depthroute::ShardContents contents = stream.read_contents(0);
  DR_CHECK(contents == stream.read_contents(1));
  DR_CHECK(stream.fingerprint(std::vector{contents, contents}) ==
           stream.fingerprint(std::vector{contents, contents}));
  stream.check_contents(0, contents);  // passes only where read() below does
  std::vector<int32_t> whole(static_cast<size_t>(stream.num_tokens()));
  stream.read(0, whole);
  for (const int32_t token : whole) DR_CHECK(token >= 0 && token < kVocabSize);
  // In pieces that cross from the first shard into the second.
  std::vector<int32_t> pieces(whole.size());
  for (size_t begin = 0; begin < pieces.size(); begin += 7)
    stream.read(static_cast<int64_t>(begin),
                std::span(pieces).subspan(begin, std::min<size_t>(7, pieces.size() - begin)));
  DR_CHECK(pieces == whole);
}

/// A valid shard with the input as its tokens: so that the fuzzer need not find the magic words first.
std::vector<uint8_t> as_shard(const uint8_t* data, size_t size, bool wide) {
  const size_t bytes = wide ? 4 : 2;
  const int32_t header[3] = {wide ? depthroute::kShardMagic32 : depthroute::kShardMagic16,
                             wide ? depthroute::kShardVersion32 : depthroute::kShardVersion16,
                             static_cast<int32_t>(size / bytes)};
  std::vector<uint8_t> shard(depthroute::kShardHeaderBytes + size / bytes * bytes);
  std::memcpy(shard.data(), header, sizeof(header));
  if (size / bytes > 0) std::memcpy(shard.data() + depthroute::kShardHeaderBytes, data, size / bytes * bytes);
  return shard;
}

void try_shard(const uint8_t* data, size_t size) {
  const depthroute::MemoryFile file(data, size);
  try {
    read_all(file.path());
  } catch (const depthroute::InputError& error) {
    DR_CHECK(std::strlen(error.what()) > 0 && std::strchr(error.what(), '\n') == nullptr);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try_shard(data, size);
  for (const bool wide : {false, true}) {
    std::vector<uint8_t> shard = as_shard(data, size, wide);
    try_shard(shard.data(), shard.size());
    // The input laid over a valid header instead.
    if (size > 0) std::memcpy(shard.data(), data, std::min(size, shard.size()));
    try_shard(shard.data(), shard.size());
  }
  return 0;
}
