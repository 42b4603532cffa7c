// What the tests of this room share: token streams, random ones too, and documents by their definition.
#pragma once

#include <algorithm>
#include <array>
#include <optional>
#include <random>

#include "configs/base/error.h"
#include "eval/sequences/sequences.h"
#include "tests/support/megatron_dataset.h"
#include "tests/support/temp_folder.h"

namespace depthroute {

/// Tokens in two shards of their own, read as one stream.
struct Data {
  /// `documents`: the start of every position's document, for shards that say so.
  explicit Data(std::vector<int32_t> all, const std::vector<int64_t>& documents = {})
      : tokens(std::move(all)) {
    if (!documents.empty()) {
      const auto half = static_cast<size_t>(documents[tokens.size() / 2]);
      write_documents(folder / "a", documents, 0, half);
      write_documents(folder / "b", documents, half, tokens.size());
      stream.emplace(std::vector<std::string>{folder / "*.idx"}, 100);
      return;
    }
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

  /// A Megatron-LM dataset of the tokens [begin, end), every document in sequences of at most three tokens.
  void write_documents(const std::string& prefix, const std::vector<int64_t>& documents, size_t begin,
                       size_t end) const {
    MegatronDataset dataset(2);
    for (size_t at = begin; at < end;) {
      std::vector<std::vector<int64_t>> sequences(1);
      const int64_t start = documents[at];
      for (; at < end && documents[at] == start; ++at) {
        if (sequences.back().size() == 3) sequences.emplace_back();
        sequences.back().push_back(tokens[at]);
      }
      dataset.document(sequences);
    }
    dataset.write(prefix);
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
    documents = document_of_each(tokens, config.separator);
    from = config.separator.empty() ? DocumentsFrom::none : DocumentsFrom::separator;
    if (from == DocumentsFrom::separator && below(3) == 0) {
      from = DocumentsFrom::shards;
      config.separator.clear();
    }
  }
  Data data() const {
    return Data(tokens, from == DocumentsFrom::shards ? documents : std::vector<int64_t>());
  }

  std::vector<int32_t> tokens;
  EvalDataConfig config;
  std::vector<int64_t> documents;  // the start of every position's document
  DocumentsFrom from;              // what tells them
};

/// Documents of `length` tokens each, the last of which is the separator 9.
inline std::vector<int32_t> even_documents(int64_t count, int64_t length) {
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < count * length; ++i) tokens.push_back(i % length == length - 1 ? 9 : 1);
  return tokens;
}

}  // namespace depthroute
