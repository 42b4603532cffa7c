// What a run reads: the streams of tokens, the order of their samples, and what their bytes are.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "configs/train_config.h"
#include "data/tokens/contents_cache.h"
#include "data/tokens/token_stream.h"
#include "kernels/collectives/world.h"
#include "train/batches.h"

namespace depthroute {

/// The configuration key that says what to train on, for messages.
const char* train_data_key(const TrainConfig& config);
/// The ratio of the sources' weights: {1} without data.mix.
std::vector<int64_t> mix_parts(const TrainConfig& config);
/// The patterns of each source.
std::vector<std::vector<std::string>> source_patterns(const TrainConfig& config);

/// Not movable: batches refer to the streams beside them.
struct RunData {
  /// Opens the shards and checks their headers, and that they are of one tokenizer. DataError.
  RunData(const TrainConfig& config, int64_t vocab_size);
  RunData(const RunData&) = delete;
  RunData& operator=(const RunData&) = delete;

  /// Hash over the outlines of all sources.
  std::string outline() const;

  std::vector<TokenStream> sources;  // data.train as one, or those of data.mix
  Batches train;
  std::optional<TokenStream> val_tokens;  // none if the run does not validate
  std::optional<Batches> val;
  std::optional<TokenizerIdentity> tokenizer;  // of all of them, as far as manifests say
  std::string fingerprint, val_fingerprint;    // by read_contents(); "" without validation data
};

/// Reads every byte of every shard, once per machine, on all its ranks and their threads: computes the
/// fingerprints and throws DataError (by World::together) if a token lies outside the vocabulary or machines
/// see different bytes. Does not read again what `cache` (rank 0's; nullptr elsewhere) knows. Calls
/// `between_chunks` from all threads every few MiB; what it throws ends the reading. Prints a line before and
/// after if it takes a while. Collective.
void read_contents(World& world, RunData& data, ContentsCache* cache,
                   const std::function<void()>& between_chunks);

}  // namespace depthroute
