// Which tokens a step trains on (train/model/SPEC.md §3): step t uses positions (t-1) G ... t G - 1 of the
// sampler, G being the global batch. Nothing else decides it, so a run can stop and resume anywhere, across
// shard and epoch borders.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "data/tokens/sampler.h"
#include "data/tokens/token_stream.h"

namespace depthroute {

/// Fills sequences [first, first + count) of a batch: tokens and targets, each count * seq_len, row-major;
/// the target of a token is the token after it.
using BatchSource =
    std::function<void(int64_t first, int64_t count, std::span<int32_t> tokens, std::span<int32_t> targets)>;

/// `stream` must outlive this object.
class Batches {
 public:
  /// DataError if the stream holds no whole sample of seq_len + 1 tokens.
  Batches(const TokenStream& stream, int64_t seq_len, DataOrder order, uint64_t seed);

  int64_t num_samples() const { return num_samples_; }
  int64_t epoch(int64_t position) const { return sampler_.epoch(position); }
  /// The batch whose first sequence is at `position`: that of step t in training, or consecutive validation
  /// windows.
  BatchSource at(int64_t position) const;

 private:
  void read(int64_t position, int64_t count, std::span<int32_t> tokens, std::span<int32_t> targets) const;

  const TokenStream& stream_;
  int64_t seq_len_, num_samples_;
  Sampler sampler_;
};

}  // namespace depthroute
