// What the tests of this room share: token streams, random ones too, and documents by their definition.
#pragma once

#include <algorithm>
#include <array>
#include <optional>
#include <random>

#include "configs/base/error.h"
#include "eval/sequences/sequences.h"
#include "tests/support/temp_folder.h"

namespace depthroute {

/// Tokens in two shards of their own, read as one stream.
struct Data {
  explicit Data(std::vector<int32_t> all) : tokens(std::move(all)) {
    const std::span<const int32_t> view(tokens);
    const size_t half = tokens.size() / 2;
    for (const auto& [name, part] : {std::pair("a.bin", view.first(half)), {"b.bin", view.subspan(half)}}) {
      ShardWriter writer(folder / name, 100);
      writer.append(part);
      writer.close();
    }
    stream.emplace(std::vector<std::string>{folder / "*.bin"}, 100);
  }

  Sequences choose(const EvalDataConfig& config, Split split, int64_t count,
                   const SplitsConfig& shares = {}) const {
    return Sequences(*stream, config, shares, split, count);
  }

  TempFolder folder;
  std::vector<int32_t> tokens;
  std::optional<TokenStream> stream;
};

inline std::vector<int32_t> random_tokens(std::mt19937_64& random, int64_t count, int vocabulary) {
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % static_cast<uint64_t>(vocabulary));
  return tokens;
}

/// The start of every position's document, by the definition.
inline std::vector<int64_t> document_of_each(const std::vector<int32_t>& tokens,
                                             const std::vector<int64_t>& separator) {
  std::vector<int64_t> documents;
  int64_t start = 0;
  size_t free = 0;  // first position that no earlier separator holds
  for (size_t p = 0; p < tokens.size(); ++p) {
    documents.push_back(start);
    if (separator.empty() || p + 1 < free + separator.size()) continue;
    if (!std::equal(separator.begin(), separator.end(), tokens.begin() + (p + 1 - separator.size())))
      continue;
    free = p + 1;
    start = static_cast<int64_t>(free);
  }
  return documents;
}

inline int64_t windows_in(const std::vector<Block>& blocks, int64_t seq_len) {
  int64_t count = 0;
  for (const Block& block : blocks) count += block.windows(seq_len);
  return count;
}

/// A random stream, and what of it to measure.
struct Case {
  explicit Case(std::mt19937_64& random) {
    const auto below = [&](uint64_t n) { return static_cast<int64_t>(random() % n); };
    static const std::vector<std::vector<int64_t>> kSeparators = {{},     {0},       {1},       {0, 1},
                                                                  {2, 2}, {1, 1, 1}, {0, 1, 0}, {3, 0, 0, 3}};
    tokens = random_tokens(random, 40 + below(3000), static_cast<int>(2 + below(5)));
    config.separator = kSeparators[static_cast<size_t>(below(kSeparators.size()))];
    config.choose = static_cast<Choose>(below(config.separator.empty() ? 3 : 4));
    config.seq_len = 1 + below(24);
    config.seed = random();
  }
  std::vector<int32_t> tokens;
  EvalDataConfig config;
};

/// Documents of `length` tokens each, the last of which is the separator 9.
inline std::vector<int32_t> even_documents(int64_t count, int64_t length) {
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < count * length; ++i) tokens.push_back(i % length == length - 1 ? 9 : 1);
  return tokens;
}

}  // namespace depthroute
