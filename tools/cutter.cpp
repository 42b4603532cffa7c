#include "tools/cutter.h"

#include <algorithm>
#include <cmath>

#include "configs/base/error.h"
#include "data/files.h"

namespace depthroute {
namespace {

constexpr int64_t kMaxShards = 100'000;
constexpr double kMaxValFraction = 0.5;

}  // namespace

void check(const CutOptions& options) {
  check_set_name(options.name);
  if (!(options.val_fraction >= 0 && options.val_fraction <= kMaxValFraction))  // nan is neither
    throw ConfigError("--val-fraction {}: must be from 0 to {}", options.val_fraction, kMaxValFraction);
  if (options.shard_tokens < 1 || options.shard_tokens > INT32_MAX)
    throw ConfigError("--shard-tokens {}: must be from 1 to {}", options.shard_tokens, INT32_MAX);
}

Plan plan_shards(const CutOptions& options, const std::vector<Input>& inputs) {
  Plan plan;
  plan.vocab_size = options.end_of_text ? 257 : 256;
  plan.total = options.end_of_text ? static_cast<int64_t>(inputs.size()) - 1 : 0;
  for (const Input& input : inputs)
    if (__builtin_add_overflow(plan.total, input.size(), &plan.total))
      throw DataError("{}: too long together with what comes before it", input.path());
  if (plan.total == 0) throw DataError("{}: empty; there is nothing to tokenise", inputs.front().path());
  plan.val = static_cast<int64_t>(std::floor(static_cast<double>(plan.total) * options.val_fraction));
  if (options.val_fraction > 0 && plan.val == 0)
    throw DataError(
        "{} tokens are too few for --val-fraction {}; raise it, or pass 0 for no validation shard",
        plan.total, options.val_fraction);
  const int64_t train = plan.total - plan.val;
  const int64_t count = (train - 1) / options.shard_tokens + 1;
  if (count > kMaxShards)
    throw ConfigError("--shard-tokens {}: would make {} shards, more than {}; raise it", options.shard_tokens,
                      count, kMaxShards);
  const size_t digits = std::max<size_t>(3, std::to_string(count - 1).size());
  for (int64_t i = 0; i < count; ++i) {
    const std::string number = count == 1 ? "" : fmt::format("_{:0{}}", i, digits);
    plan.shards.push_back(
        {options.name + number + ".bin", std::min(options.shard_tokens, train - i * options.shard_tokens)});
  }
  if (plan.val > 0) plan.shards.push_back({std::string(kValidationName) + ".bin", plan.val});
  return plan;
}

void Cutter::append(std::span<const int32_t> tokens) {
  for (const int32_t token : tokens) ++counts_[static_cast<size_t>(token)];
  while (!tokens.empty()) {
    const Plan::Shard& shard = plan_.shards[done_.size()];
    const std::string path = folder_ + "/" + shard.name;
    if (!writer_) writer_ = std::make_unique<ShardWriter>(path, plan_.vocab_size);
    const int64_t room = shard.tokens - writer_->num_tokens();
    const auto part = tokens.first(static_cast<size_t>(std::min(room, static_cast<int64_t>(tokens.size()))));
    writer_->append(part);
    tokens = tokens.subspan(part.size());
    if (static_cast<int64_t>(part.size()) < room) continue;
    writer_->close();
    writer_.reset();
    done_.push_back({shard.name, shard.tokens, hash_file(path)});
    throw_if_stopped();
  }
}

double Cutter::unigram_entropy() const {
  double total = 0, entropy = 0;
  for (const int64_t count : counts_) total += static_cast<double>(count);
  for (const int64_t count : counts_)
    if (count > 0)
      entropy -= static_cast<double>(count) / total * std::log(static_cast<double>(count) / total);
  return entropy;
}

}  // namespace depthroute
