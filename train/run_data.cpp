#include "train/run_data.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <nlohmann/json.hpp>
#include <vector>

#include "configs/base/error.h"
#include "configs/standard_streams.h"
#include "configs/whole_ratio.h"
#include "data/files.h"

namespace depthroute {
namespace {

using nlohmann::json;

constexpr double kReadingTimeout = 4 * 3600;  // seconds that one machine may be behind another
constexpr int64_t kWorthSaying = int64_t{1} << 30;

struct Shard {
  const TokenStream* stream;
  size_t index;
  const ShardInfo& info() const { return stream->shards()[index]; }
  int64_t bytes() const { return info().num_tokens * info().token_bytes; }
};

std::vector<Shard> all_shards(const RunData& data) {
  std::vector<Shard> shards;
  const auto add = [&](const TokenStream& stream) {
    for (size_t i = 0; i < stream.shards().size(); ++i) shards.push_back({&stream, i});
  };
  for (const TokenStream& stream : data.sources) add(stream);
  if (data.val_tokens) add(*data.val_tokens);
  return shards;
}

/// By index in all_shards(); nullopt if not known.
using Known = std::vector<std::optional<ShardContents>>;

std::string to_text(const Known& known) {
  json list = json::array();
  for (const auto& contents : known)
    list.push_back(contents ? json{contents->checksum, contents->largest_token} : json());
  return list.dump();
}

Known from_text(const std::string& text) {
  Known known;
  for (const json& entry : json::parse(text))
    known.push_back(entry.is_null() ? std::nullopt : std::optional(ShardContents{entry.at(0), entry.at(1)}));
  return known;
}

/// Reads this rank's share of `places`, which the ranks of its machine divide among them.
Known read_share(const World& world, const std::vector<Shard>& shards, const std::vector<size_t>& places,
                 const std::function<void()>& between_chunks) {
  Known read(shards.size());
  std::exception_ptr failure;
  const auto step = static_cast<int64_t>(world.local_size());
#pragma omp parallel for schedule(dynamic)
  for (int64_t i = world.local_rank(); i < static_cast<int64_t>(places.size()); i += step) {
    try {
      const Shard& shard = shards[places[static_cast<size_t>(i)]];
      const ShardContents contents = shard.stream->read_contents(shard.index, between_chunks);
      shard.stream->check_contents(shard.index, contents);
      read[places[static_cast<size_t>(i)]] = contents;
    } catch (...) {
#pragma omp critical
      if (!failure) failure = std::current_exception();
    }
  }
  if (failure) std::rethrow_exception(failure);
  return read;
}

/// Adds what all ranks have read to `known`. On rank 0.
void merge(const std::vector<std::string>& texts, const std::vector<Shard>& shards, Known& known) {
  for (const std::string& text : texts) {
    const Known read = from_text(text);
    for (size_t i = 0; i < read.size(); ++i) {
      if (!read[i]) continue;
      if (known[i] && *known[i] != *read[i])
        throw DataError("{}: two machines see different bytes in it: all must see the same files",
                        shards[i].info().path);
      known[i] = read[i];
    }
  }
}

/// Adds what was read to the cache. DataError if a shard was changed while it was read. `began`: the clock's
/// time then.
void remember(ContentsCache& cache, const std::vector<Shard>& shards, const std::vector<size_t>& places,
              const Known& known, int64_t began) {
  for (const size_t place : places) {
    const std::vector<ShardFile> files = shards[place].stream->files(shards[place].index);
    bool as_opened = true;
    for (const auto& [path, opened] : files) {
      const std::optional<FileIdentity> now = identify(path);
      if (now && now->inode == opened.inode && now->device == opened.device && *now != opened)
        throw DataError("{}: changed while it was read: start again when it is complete", path);
      as_opened = as_opened && now == opened;
    }
    if (as_opened) cache.add(files, *known[place], began);
  }
}

int64_t clock_ns() {
  return std::chrono::nanoseconds(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::string fingerprint_of(const TokenStream& stream, const Known& known, size_t first) {
  std::vector<ShardContents> contents;
  for (size_t i = 0; i < stream.shards().size(); ++i) contents.push_back(known[first + i].value());
  return stream.fingerprint(contents);
}

std::vector<TokenStream> open_sources(const TrainConfig& config, int64_t vocab_size) {
  std::vector<TokenStream> sources;
  for (const std::vector<std::string>& patterns : source_patterns(config))
    sources.emplace_back(patterns, vocab_size);
  return sources;
}

/// DataError if a stream is of another tokenizer than `known`, that of the key `known_by`; none known yet: this is it.
void note_tokenizer(const StreamManifest& manifest, const std::string& key,
                    std::optional<TokenizerIdentity>& known, std::string& known_by) {
  if (!manifest.tokenizer) return;
  if (known && !known->same_as(*manifest.tokenizer))
    throw DataError("{} is of the tokenizer {}, {} of {}; make them with one tokenizer", known_by,
                    known->describe(), key, manifest.tokenizer->describe());
  if (!known) known_by = key;
  if (!known) known = manifest.tokenizer;
}

/// One text of several sources; of one, its own.
std::string joined(const std::vector<std::string>& texts, const std::string& kind) {
  if (texts.size() == 1) return texts.front();
  std::string all;
  for (const std::string& text : texts) all += text + "\n";
  return kind + hash_bytes(std::as_bytes(std::span<const char>(all)));
}

}  // namespace

const char* train_data_key(const TrainConfig& config) {
  return config.data.mix.empty() ? "data.train" : "data.mix";
}

std::vector<int64_t> mix_parts(const TrainConfig& config) {
  std::vector<double> weights;
  for (const MixSource& source : config.data.mix) weights.push_back(source.weight);
  if (weights.empty()) weights = {1};
  return whole_ratio(weights).value();  // the configuration's reader has refused others
}

std::vector<std::vector<std::string>> source_patterns(const TrainConfig& config) {
  if (config.data.mix.empty()) return {config.data.train};
  std::vector<std::vector<std::string>> patterns;
  for (const MixSource& source : config.data.mix) patterns.push_back(source.shards);
  return patterns;
}

std::string RunData::outline() const {
  std::vector<std::string> outlines;
  for (const TokenStream& source : sources) outlines.push_back(source.outline());
  return joined(outlines, "");
}

RunData::RunData(const TrainConfig& config, int64_t vocab_size)
    : sources(open_sources(config, vocab_size)),
      train(sources, mix_parts(config), config.data.seq_len, config.data.order, config.seed) {
  std::string known_by;
  for (size_t i = 0; i < sources.size(); ++i)
    note_tokenizer(sources[i].manifest(),
                   config.data.mix.empty() ? "data.train" : fmt::format("data.mix[{}]", i), tokenizer,
                   known_by);
  if (config.data.val.empty() || config.validate.every == 0) return;
  val_tokens.emplace(config.data.val, vocab_size);
  note_tokenizer(val_tokens->manifest(), "data.val", tokenizer, known_by);
  val.emplace(*val_tokens, config.data.seq_len, DataOrder::sequential, config.seed);
}

void read_contents(World& world, RunData& data, ContentsCache* cache,
                   const std::function<void()>& between_chunks) {
  const std::vector<Shard> shards = all_shards(data);
  Known known(shards.size());
  if (cache != nullptr)
    for (size_t i = 0; i < shards.size(); ++i)
      known[i] = cache->find(shards[i].stream->files(shards[i].index));
  known = from_text(world.broadcast(to_text(known)));
  std::vector<size_t> places;
  int64_t bytes = 0;
  for (size_t i = 0; i < shards.size(); ++i) {
    if (known[i]) continue;
    places.push_back(i);
    bytes += shards[i].bytes();
  }

  const double timeout = world.timeout();
  world.set_timeout(std::max(timeout, kReadingTimeout));
  const bool say = world.is_rank_0() && bytes >= kWorthSaying;
  if (say)
    print_line(stdout, fmt::format("reading all tokens once ({:.1f} GB in {} shards) for checksums and range",
                                   static_cast<double>(bytes) / 1e9, places.size()));
  const int64_t began = clock_ns();
  Known mine;
  world.together([&] { mine = read_share(world, shards, places, between_chunks); });
  const std::vector<std::string> texts = world.gather(to_text(mine));
  world.together([&] {
    if (!world.is_rank_0()) return;
    merge(texts, shards, known);
    if (cache != nullptr) remember(*cache, shards, places, known, began);
    // A cached range may come from a start with a larger vocabulary.
    for (size_t i = 0; i < shards.size(); ++i) shards[i].stream->check_contents(shards[i].index, *known[i]);
  });
  known = from_text(world.broadcast(to_text(known)));
  world.set_timeout(timeout);
  if (say)
    print_line(stdout, fmt::format("read in {:.1f} s", 1e-9 * static_cast<double>(clock_ns() - began)));
  size_t first = 0;
  std::vector<std::string> fingerprints;
  for (const TokenStream& source : data.sources) {
    fingerprints.push_back(fingerprint_of(source, known, first));
    first += source.shards().size();
  }
  data.fingerprint = joined(fingerprints, kFingerprintKind);
  if (data.val_tokens) data.val_fingerprint = fingerprint_of(*data.val_tokens, known, first);
}

}  // namespace depthroute
