#include "train/batches.h"

#include <algorithm>
#include <array>

#include "configs/base/check.h"
#include "configs/base/error.h"
#include "configs/base/random.h"

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
    : seq_len_(seq_len), mix_(std::array<int64_t, 1>{1}) {
  add(stream, order, seed);
}

Batches::Batches(std::span<const TokenStream> streams, std::span<const int64_t> parts, int64_t seq_len,
                 DataOrder order, uint64_t seed)
    : seq_len_(seq_len), mix_(parts) {
  DR_CHECK(streams.size() == parts.size());
  for (const TokenStream& stream : streams)
    add(stream, order, sources_.empty() ? seed : stream_key(seed, fmt::format("source {}", sources_.size())));
}

void Batches::add(const TokenStream& stream, DataOrder order, uint64_t seed) {
  const int64_t samples = checked_samples(stream, seq_len_);
  sources_.push_back({&stream, samples, Sampler(samples, order, seed)});
}

int64_t Batches::num_samples() const {
  int64_t samples = 0;
  for (const Source& source : sources_) samples += source.num_samples;
  return samples;
}

int64_t Batches::epoch(int64_t source, int64_t position) const {
  return std::max<int64_t>(0, draws(source, position + 1) - 1) / num_samples(source);
}

int64_t Batches::epoch(int64_t position) const {
  int64_t least = epoch(0, position);
  for (int64_t source = 1; source < num_sources(); ++source) least = std::min(least, epoch(source, position));
  return least;
}

BatchSource Batches::at(int64_t position) const {
  return [this, position](int64_t first, int64_t count, std::span<int32_t> tokens,
                          std::span<int32_t> targets) { read(position + first, count, tokens, targets); };
}

void Batches::read(int64_t position, int64_t count, std::span<int32_t> tokens,
                   std::span<int32_t> targets) const {
  const auto length = static_cast<size_t>(seq_len_);
  DR_CHECK(tokens.size() == static_cast<size_t>(count) * length && targets.size() == tokens.size());
  for (int64_t i = 0; i < count; ++i) {
    const Mix::Draw draw = mix_.at(position + i);
    const Source& source = sources_[static_cast<size_t>(draw.source)];
    const int64_t begin = source.sampler.sample(draw.number) * seq_len_;
    const std::span<int32_t> inputs = tokens.subspan(static_cast<size_t>(i) * length, length);
    const std::span<int32_t> outputs = targets.subspan(static_cast<size_t>(i) * length, length);
    source.stream->read(begin, inputs);
    std::copy(inputs.begin() + 1, inputs.end(), outputs.begin());
    source.stream->read(begin + seq_len_, outputs.last(1));
  }
}

}  // namespace depthroute
