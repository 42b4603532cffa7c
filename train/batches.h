// Which tokens a step trains on (train/model/SPEC.md §3): step t uses positions (t-1) G ... t G - 1, G being
// the global batch. A position is a sample of the one stream, or, of several mixed streams, the next sample
// of the one whose turn it is. Nothing else decides it, so a run can stop and resume anywhere, across shard
// and epoch borders.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "data/tokens/mix.h"
#include "data/tokens/sampler.h"
#include "data/tokens/token_stream.h"

namespace depthroute {

/// Fills sequences [first, first + count) of a batch: tokens and targets, each count * seq_len, row-major;
/// the target of a token is the token after it.
using BatchSource =
    std::function<void(int64_t first, int64_t count, std::span<int32_t> tokens, std::span<int32_t> targets)>;

/// The streams must outlive this object and stay where they are.
class Batches {
 public:
  /// DataError if the stream holds no whole sample of seq_len + 1 tokens.
  Batches(const TokenStream& stream, int64_t seq_len, DataOrder order, uint64_t seed);
  /// Mixes `streams`; `parts`, one each, are their weights (Mix). A stream's samples have an order of their
  /// own, and when all have been drawn its next epoch begins. A single stream gives the batches of the other
  /// constructor.
  Batches(std::span<const TokenStream> streams, std::span<const int64_t> parts, int64_t seq_len,
          DataOrder order, uint64_t seed);

  int64_t num_sources() const { return mix_.num_sources(); }
  int64_t num_samples() const;  // of all sources
  int64_t num_samples(int64_t source) const { return sources_[static_cast<size_t>(source)].num_samples; }
  /// How many samples of `source` the first `positions` positions draw.
  int64_t draws(int64_t source, int64_t positions) const { return mix_.draws(source, positions); }
  /// The epoch, counted from 0, of the last sample drawn up to `position`; of several sources the least.
  int64_t epoch(int64_t position) const;
  /// The same of one source.
  int64_t epoch(int64_t source, int64_t position) const;
  /// The batch whose first sequence is at `position`: that of step t in training, or consecutive validation
  /// windows.
  BatchSource at(int64_t position) const;

 private:
  struct Source {
    const TokenStream* stream;
    int64_t num_samples;
    Sampler sampler;
  };
  void add(const TokenStream& stream, DataOrder order, uint64_t seed);
  void read(int64_t position, int64_t count, std::span<int32_t> tokens, std::span<int32_t> targets) const;

  int64_t seq_len_;
  Mix mix_;
  std::vector<Source> sources_;
};

}  // namespace depthroute
