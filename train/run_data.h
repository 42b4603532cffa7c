// What a run reads: the streams of tokens, the order of their samples, and what their bytes are.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "configs/train_config.h"
#include "data/contents_cache.h"
#include "data/token_stream.h"
#include "kernels/collectives/world.h"
#include "train/batches.h"

namespace depthroute {

/// Batches refer to the streams beside them: stays where it was made.
struct RunData {
  /// Opens the shards and checks their headers. DataError.
  RunData(const TrainConfig& config, int64_t vocab_size);
  RunData(const RunData&) = delete;
  RunData& operator=(const RunData&) = delete;

  TokenStream tokens;
  Batches train;
  std::optional<TokenStream> val_tokens;  // nothing where the run does not validate
  std::optional<Batches> val;
  std::string fingerprint, val_fingerprint;  // by read_contents(); "" without validation data
};

/// Collective. Reads every byte of every shard, once per machine, by all its processes and their threads:
/// computes the fingerprints and throws DataError (by World::together) where a token lies outside the
/// vocabulary or machines see different bytes. What `cache` (rank 0's; nullptr elsewhere) knows is
/// not read again. `between_chunks` is called from all threads every few MiB; what it throws ends the
/// reading. Says what it does where that takes a while.
void read_contents(World& world, RunData& data, ContentsCache* cache,
                   const std::function<void()>& between_chunks);

}  // namespace depthroute
