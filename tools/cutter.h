// Decides where a text is cut into shards, and cuts it.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "data/tokens/token_stream.h"
#include "tools/token_set.h"
#include "tools/tokenize_input.h"

namespace depthroute {

struct CutOptions {
  std::string name = "train";
  int64_t shard_tokens = 100'000'000;  // at most, in a training shard
  double val_fraction = 0.01;
  bool end_of_text = false;  // a token between inputs
};

/// ConfigError for a name that begins no file, a fraction outside [0, 0.5] (nan is), fewer tokens than 1.
void check(const CutOptions& options);

/// How many tokens there are, and which files they go to.
struct Plan {
  int64_t total = 0, val = 0;
  int64_t vocab_size = 256;
  struct Shard {
    std::string name;
    int64_t tokens;
  };
  std::vector<Shard> shards;  // training, then validation

  std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (const Shard& shard : shards) all.push_back(shard.name);
    return all;
  }
};

/// DataError if there is too little text, ConfigError if there are too many shards.
Plan plan_shards(const CutOptions& options, const std::vector<Input>& inputs);

/// Cuts the arriving tokens into the planned shards, all in one unfinished folder.
class Cutter {
 public:
  Cutter(std::string folder, const Plan& plan) : folder_(std::move(folder)), plan_(plan) {}

  /// SystemError when writing fails or a stop signal has arrived.
  void append(std::span<const int32_t> tokens);
  /// Returns the complete shards, as a manifest lists them.
  const std::vector<TokenFile>& done() const { return done_; }
  /// Returns the entropy of the tokens' frequencies in nats: the loss of a model that knows nothing else.
  double unigram_entropy() const;

 private:
  std::string folder_;
  const Plan& plan_;
  std::vector<TokenFile> done_;
  std::unique_ptr<ShardWriter> writer_;
  std::array<int64_t, 257> counts_{};
};

}  // namespace depthroute
