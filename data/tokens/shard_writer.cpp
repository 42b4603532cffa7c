#include <cstring>

#include "configs/base/check.h"
#include "configs/base/error.h"
#include "data/atomic_path.h"
#include "data/tokens/token_stream.h"

namespace depthroute {
namespace {

constexpr size_t kBufferBytes = size_t{1} << 20;

}  // namespace

struct ShardWriter::Impl {
  Impl(const std::string& path_, int64_t vocab_size_)
      : file(path_), path(path_), vocab_size(vocab_size_), token_bytes(vocab_size_ <= 65536 ? 2 : 4) {
    buffer.reserve(kBufferBytes + 4);
  }

  void push(int32_t token) {
    const auto* bytes = reinterpret_cast<const char*>(&token);  // little-endian: the low bytes come first
    buffer.insert(buffer.end(), bytes, bytes + token_bytes);
    if (buffer.size() >= kBufferBytes) flush();
  }

  void flush() {
    file.write(buffer.data(), buffer.size());
    buffer.clear();
  }

  AtomicFile file;
  std::string path;
  int64_t vocab_size;
  int token_bytes;
  int64_t count = 0;
  bool closed = false;
  std::vector<char> buffer;
};

ShardWriter::ShardWriter(const std::string& path, int64_t vocab_size) {
  DR_CHECK(vocab_size >= 1 && vocab_size <= int64_t{1} << 31);
  impl_ = std::make_unique<Impl>(path, vocab_size);
  const std::vector<char> header(static_cast<size_t>(kShardHeaderBytes), 0);  // filled in by close()
  impl_->file.write(header.data(), header.size());
}

ShardWriter::~ShardWriter() = default;

void ShardWriter::append(std::span<const int32_t> tokens) {
  DR_CHECK(!impl_->closed);
  if (impl_->count + static_cast<int64_t>(tokens.size()) > INT32_MAX)
    throw DataError("{}: a token shard holds at most {} tokens; write several shards", impl_->path,
                    INT32_MAX);
  for (const int32_t token : tokens) {
    if (token < 0 || token >= impl_->vocab_size)
      throw DataError("{}: token {} is {}, outside the vocabulary of {}; check the tokenizer", impl_->path,
                      impl_->count, token, impl_->vocab_size);
    impl_->push(token);
    ++impl_->count;
  }
}

void ShardWriter::close() {
  DR_CHECK(!impl_->closed);
  impl_->closed = true;
  impl_->flush();
  const bool narrow_tokens = impl_->token_bytes == 2;
  const int32_t header[3] = {narrow_tokens ? kShardMagic16 : kShardMagic32,
                             narrow_tokens ? kShardVersion16 : kShardVersion32,
                             narrow<int32_t>(impl_->count)};
  impl_->file.write_at(0, header, sizeof(header));
  impl_->file.commit();
}

int64_t ShardWriter::num_tokens() const { return impl_->count; }

}  // namespace depthroute
