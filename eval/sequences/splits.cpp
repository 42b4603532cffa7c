#include "eval/sequences/splits.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "configs/base/error.h"
#include "configs/base/random.h"
#include "data/tokens/sampler.h"
#include "eval/sequences/documents.h"

namespace depthroute {
namespace {

constexpr int64_t kWindowsPerBlock = 8;
constexpr int64_t kMostBlocks = 1024;
constexpr std::array kSplits = {Split::calibration, Split::exploration, Split::confirmation};

std::vector<Block> cut(const TokenStream& stream, const EvalDataConfig& data) {
  const int64_t tokens = stream.num_tokens(), windows = stream.num_samples(data.seq_len);
  int64_t count = std::clamp<int64_t>(windows / kWindowsPerBlock, 1, kMostBlocks);
  count = std::max(count, std::min<int64_t>(windows, std::size(kSplits)));
  const Documents documents(stream, data.separator);
  std::vector<Block> blocks;
  int64_t begin = 0;
  for (int64_t i = 1; i <= count; ++i) {
    int64_t end = tokens / count * i + tokens % count * i / count;
    if (end <= begin) continue;  // the cut before it was moved beyond it
    if (documents.known() && end < tokens) end = documents.first_start(begin, end, tokens);
    blocks.push_back({begin, end});
    begin = end;
  }
  return blocks;
}

/// How many of `blocks` blocks each split gets: by its share, rounded, but at least one if it has a share.
std::array<int64_t, kSplits.size()> deal(int64_t blocks, const SplitsConfig& shares) {
  const std::array share = {shares.calibration, shares.exploration, shares.confirmation};
  std::array<int64_t, kSplits.size()> counts{};
  double sum = 0;
  int64_t dealt = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    sum += share[i];
    const int64_t until = std::min<int64_t>(blocks, std::llround(sum * static_cast<double>(blocks)));
    counts[i] = until - dealt;
    dealt = until;
  }
  for (size_t i = 0; i < counts.size(); ++i) {
    if (share[i] == 0 || counts[i] > 0) continue;
    --*std::max_element(counts.begin(), counts.end());
    ++counts[i];
  }
  return counts;
}

/// Which of `count` things a split gets, ascending.
std::vector<int64_t> dealt_to(int64_t count, uint64_t seed, const SplitsConfig& shares, Split split) {
  const auto counts = deal(count, shares);
  int64_t rank = 0;
  for (size_t i = 0; kSplits[i] != split; ++i) rank += counts[i];
  const int64_t end = rank + counts[static_cast<size_t>(split) - 1];
  const Sampler order(count, DataOrder::shuffled, stream_key(seed, "splits"));
  std::vector<int64_t> numbers;
  for (; rank < end; ++rank) numbers.push_back(order.sample(rank));
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

int64_t splits_with_a_share(const SplitsConfig& shares) {
  return (shares.calibration > 0) + (shares.exploration > 0) + (shares.confirmation > 0);
}

const char* too_few_documents(DocumentsFrom from) {
  switch (from) {
    case DocumentsFrom::separator:
      return " and too few documents that end with data.separator";
    case DocumentsFrom::shards:
      return " in too few documents";
    case DocumentsFrom::none:
    case DocumentsFrom::requests:
      break;
  }
  return "";
}

}  // namespace

std::vector<Block> blocks_of(const TokenStream& stream, const EvalDataConfig& data,
                             const SplitsConfig& shares, Split split) {
  if (split == Split::all) return {{0, stream.num_tokens()}};
  const std::vector<Block> all = cut(stream, data);
  const int64_t count = static_cast<int64_t>(all.size()), wanted = splits_with_a_share(shares);
  if (count < wanted)
    throw ConfigError(
        "data.split is {}, but data.shards can be cut into {} {} for {} splits: they hold {} windows of seq_len "
        "{}{}; give more data, or set data.split: all",
        to_string(split), count, count == 1 ? "block" : "blocks", wanted, stream.num_samples(data.seq_len),
        data.seq_len, too_few_documents(Documents(stream, data.separator).from()));
  std::vector<Block> blocks;
  for (const int64_t number : dealt_to(count, data.seed, shares, split))
    blocks.push_back(all[static_cast<size_t>(number)]);
  return blocks;
}

std::vector<int64_t> task_documents_of(int64_t count, uint64_t seed, const SplitsConfig& shares,
                                       Split split) {
  if (split == Split::all) {
    std::vector<int64_t> all(static_cast<size_t>(count));
    std::iota(all.begin(), all.end(), 0);
    return all;
  }
  if (count < splits_with_a_share(shares))
    throw ConfigError(
        "data.split is {}, but data.requests hold {} documents for {} splits; set data.split: all",
        to_string(split), count, splits_with_a_share(shares));
  return dealt_to(count, seed, shares, split);
}

}  // namespace depthroute
