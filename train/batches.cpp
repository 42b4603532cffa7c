#include "train/batches.h"

#include <algorithm>

#include "configs/base/check.h"
#include "configs/base/error.h"

namespace depthroute {

namespace {
int64_t checked_samples(const TokenStream& stream, int64_t seq_len) {
  const int64_t samples = stream.num_samples(seq_len);
  if (samples < 1)
    throw DataError(
        "{}: {} tokens are too few for one sample of data.seq_len + 1 = {} tokens: add shards or lower "
        "data.seq_len",
        stream.shards().front().path, stream.num_tokens(), seq_len + 1);
  return samples;
}
}  // namespace

Batches::Batches(const TokenStream& stream, int64_t seq_len, DataOrder order, uint64_t seed)
    : stream_(stream),
      seq_len_(seq_len),
      num_samples_(checked_samples(stream, seq_len)),
      sampler_(num_samples_, order, seed) {}

BatchSource Batches::at(int64_t position) const {
  return [this, position](int64_t first, int64_t count, std::span<int32_t> tokens,
                          std::span<int32_t> targets) { read(position + first, count, tokens, targets); };
}

void Batches::read(int64_t position, int64_t count, std::span<int32_t> tokens,
                   std::span<int32_t> targets) const {
  const auto length = static_cast<size_t>(seq_len_);
  DR_CHECK(tokens.size() == static_cast<size_t>(count) * length && targets.size() == tokens.size());
  for (int64_t i = 0; i < count; ++i) {
    const int64_t begin = sampler_.sample(position + i) * seq_len_;
    const std::span<int32_t> inputs = tokens.subspan(static_cast<size_t>(i) * length, length);
    const std::span<int32_t> outputs = targets.subspan(static_cast<size_t>(i) * length, length);
    stream_.read(begin, inputs);
    std::copy(inputs.begin() + 1, inputs.end(), outputs.begin());
    stream_.read(begin + seq_len_, outputs.last(1));
  }
}

}  // namespace depthroute
