// Splits: blocks of whole documents, disjoint and complete.
#include <gtest/gtest.h>

#include <map>

#include "tests/eval/sequences/token_data.h"

namespace depthroute {
namespace {

constexpr std::array kThreeSplits = {Split::calibration, Split::exploration, Split::confirmation};

TEST(Splits, AreDisjointByDocumentAndCoverTheStream) {
  std::mt19937_64 random(2);
  int split_streams = 0;
  for (int i = 0; i < 100; ++i) {
    const Case one(random);
    const Data data = one.data();
    std::vector<Block> all;
    std::map<int64_t, Split> split_of;  // by document
    try {
      for (const Split split : kThreeSplits) {
        const std::vector<Block> blocks = blocks_of(*data.stream, one.config, {}, split);
        ASSERT_FALSE(blocks.empty());
        all.insert(all.end(), blocks.begin(), blocks.end());
        EvalDataConfig config = one.config;
        config.choose = Choose::first;
        const int64_t count = windows_in(blocks, config.seq_len);
        if (count == 0) continue;
        const Sequences chosen = data.choose(config, split, count);
        for (const Segment& segment : chosen.segments()) {
          const auto [at, added] = split_of.emplace(segment.document, split);
          ASSERT_EQ(at->second, split) << "document " << segment.document << " is in two splits";
        }
        // No window crosses the end of its block; those of a block follow each other.
        auto block = blocks.begin();
        for (int64_t k = 0, in_block = 0; k < count; ++k, ++in_block) {
          for (; in_block == block->windows(config.seq_len); ++block) in_block = 0;
          ASSERT_EQ(chosen.first_token(k), block->begin + in_block * config.seq_len);
          ASSERT_LT(chosen.first_token(k) + config.seq_len, block->end);
        }
      }
    } catch (const ConfigError&) {
      continue;
    }
    std::sort(all.begin(), all.end(), [](const Block& a, const Block& b) { return a.begin < b.begin; });
    int64_t next = 0;
    for (const Block& block : all) {
      ASSERT_EQ(block.begin, next);
      ASSERT_LT(block.begin, block.end);
      if (one.from != DocumentsFrom::none) {
        ASSERT_EQ(one.documents[static_cast<size_t>(next)], next);
      }
      next = block.end;
    }
    ASSERT_EQ(next, data.stream->num_tokens());
    ++split_streams;
  }
  EXPECT_GT(split_streams, 40);
}

TEST(Splits, SharesAreKept) {
  const Data data(even_documents(5000, 10));
  EvalDataConfig config;
  config.seq_len = 10;
  config.separator = {9};
  const SplitsConfig shares = {.calibration = 0.1, .exploration = 0.9, .confirmation = 0};
  std::map<Split, int64_t> tokens;
  for (const Split split : {Split::calibration, Split::exploration})
    for (const Block& block : blocks_of(*data.stream, config, shares, split))
      tokens[split] += block.end - block.begin;
  EXPECT_EQ(tokens[Split::calibration] + tokens[Split::exploration], 50000);
  EXPECT_NEAR(static_cast<double>(tokens[Split::calibration]), 5000, 500);
  // Another seed deals other blocks.
  const int64_t begin = blocks_of(*data.stream, config, shares, Split::calibration).front().begin;
  config.seed = 2;
  EXPECT_NE(blocks_of(*data.stream, config, shares, Split::calibration).front().begin, begin);
}

TEST(Splits, ASmallShareGetsABlock) {
  const Data data(even_documents(40, 10));  // 39 windows, 4 blocks
  EvalDataConfig config;
  config.seq_len = 10;
  config.separator = {9};
  const SplitsConfig shares = {.calibration = 0.01, .exploration = 0.98, .confirmation = 0.01};
  for (const auto& [split, blocks] :
       {std::pair(Split::calibration, 1), {Split::exploration, 2}, {Split::confirmation, 1}})
    EXPECT_EQ(std::ssize(blocks_of(*data.stream, config, shares, split)), blocks) << to_string(split);
}

TEST(Splits, TooFewDocumentsAreRefused) {
  EvalDataConfig config;
  config.seq_len = 10;
  config.separator = {9};
  const Data one(std::vector<int32_t>(1000, 1));
  EXPECT_EQ(
      message_of<ConfigError>([&] { one.choose(config, Split::confirmation, 1); }),
      "data.split is confirmation, but data.shards can be cut into 1 block for 3 splits: they hold 99 windows "
      "of seq_len 10 and too few documents that end with data.separator; give more data, or set data.split: "
      "all");
  config.separator.clear();
  EXPECT_EQ(one.choose(config, Split::confirmation, 1).size(), 1);
  const Data told(one.tokens, std::vector<int64_t>(1000, 0));
  EXPECT_EQ(
      message_of<ConfigError>([&] { told.choose(config, Split::confirmation, 1); }),
      "data.split is confirmation, but data.shards can be cut into 1 block for 3 splits: they hold 99 windows "
      "of seq_len 10 in too few documents; give more data, or set data.split: all");
  const Data none(std::vector<int32_t>(4, 1));
  EXPECT_EQ(
      message_of<ConfigError>([&] { none.choose(config, Split::calibration, 1); }),
      "data.split is calibration, but data.shards can be cut into 1 block for 3 splits: they hold 0 windows "
      "of seq_len 10; give more data, or set data.split: all");
}

}  // namespace
}  // namespace depthroute
