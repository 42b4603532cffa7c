// Which sequences are measured, and whose each target is: against a slow reading of the whole stream.
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "tests/eval/sequences/token_data.h"

namespace depthroute {
namespace {

/// Documents of at least two tokens in the blocks.
int64_t documents_in(const std::vector<Block>& blocks, const std::vector<int64_t>& documents) {
  int64_t count = 0;
  for (const Block& block : blocks) {
    std::map<int64_t, int64_t> lengths;
    for (int64_t p = block.begin; p < block.end; ++p) ++lengths[documents[static_cast<size_t>(p)]];
    for (const auto& [start, length] : lengths) count += length >= 2;
  }
  return count;
}

/// Every position of `sequence` holds the stream's tokens or padding; its segments partition its targets in
/// order, and each is a maximal run of one document.
void expect_sequence(const Sequences& chosen, int64_t sequence, const Data& data,
                     const std::vector<int64_t>& documents) {
  const size_t T = static_cast<size_t>(chosen.seq_len()), real = static_cast<size_t>(chosen.length(sequence));
  const size_t first = static_cast<size_t>(chosen.first_token(sequence));
  std::vector<int32_t> tokens(T, -7), targets(T, -7);
  chosen.read(sequence, tokens, targets);
  ASSERT_EQ(chosen.tokens(sequence), chosen.length(sequence));
  ASSERT_LE(first + real, data.tokens.size() - 1);
  for (size_t t = 0; t < T; ++t) {
    ASSERT_EQ(tokens[t], t < real ? data.tokens[first + t] : 0);
    ASSERT_EQ(targets[t], t < real ? data.tokens[first + t + 1] : -1);
  }
  const std::vector<int64_t> starts = chosen.document_starts(sequence);
  for (size_t t = 0; t < T; ++t) {
    const bool begins =
        t < real && (documents.empty() ? t == 0 : documents[first + t] == static_cast<int64_t>(first + t));
    ASSERT_EQ(std::ranges::count(starts, static_cast<int64_t>(t)), begins) << t;
  }
  int64_t next = 0, previous = -1;
  for (const Segment& segment : chosen.segments_of(sequence, 1)) {
    ASSERT_EQ(segment.sequence, sequence);
    ASSERT_EQ(segment.first_token, next);
    ASSERT_GE(segment.tokens, 1);
    ASSERT_NE(segment.document, previous);
    previous = segment.document;
    for (next = segment.first_token; next < segment.first_token + segment.tokens; ++next)
      ASSERT_EQ(segment.document, documents.empty() ? chosen.first_token(sequence)
                                                    : documents[first + 1 + static_cast<size_t>(next)]);
  }
  ASSERT_EQ(next, chosen.tokens(sequence));
}

TEST(Sequences, EveryTargetBelongsToItsDocument) {
  std::mt19937_64 random(1);
  int measured = 0, many_documents = 0, told_by_shards = 0;
  for (int i = 0; i < 150; ++i) {
    const Case one(random);
    const Data data = one.data();
    for (const Split split : values<Split>()) {
      std::vector<Block> blocks;
      try {
        blocks = blocks_of(*data.stream, one.config, {}, split);
      } catch (const ConfigError&) {
        continue;
      }
      const int64_t available = one.config.choose == Choose::documents
                                    ? documents_in(blocks, one.documents)
                                    : windows_in(blocks, one.config.seq_len);
      EXPECT_THROW(data.choose(one.config, split, available + 1), ConfigError);
      if (available == 0) continue;
      const int64_t count = 1 + static_cast<int64_t>(random() % static_cast<uint64_t>(available));
      const Sequences chosen = data.choose(one.config, split, count);
      ASSERT_EQ(chosen.size(), count);
      ASSERT_EQ(chosen.documents_from(), one.from);
      std::set<int64_t> seen;
      for (const Segment& segment : chosen.segments()) seen.insert(segment.document);
      ASSERT_EQ(chosen.documents(), static_cast<int64_t>(seen.size()));
      for (int64_t k = 0; k < count; ++k) {
        expect_sequence(chosen, k, data,
                        one.from == DocumentsFrom::none ? std::vector<int64_t>() : one.documents);
        if (k > 0) {
          ASSERT_LT(chosen.first_token(k - 1), chosen.first_token(k));
        }
        if (HasFatalFailure()) FAIL() << "case " << i << ", split " << to_string(split);
      }
      ASSERT_EQ(std::ssize(chosen.segments_of(0, count)), std::ssize(chosen.segments()));
      const Sequences again = data.choose(one.config, split, count);
      ASSERT_EQ(again.fingerprint(), chosen.fingerprint());
      ++measured;
      many_documents += chosen.documents() > 3;
      told_by_shards += chosen.documents() > 3 && one.from == DocumentsFrom::shards;
    }
  }
  EXPECT_GT(measured, 250);
  EXPECT_GT(many_documents, 120);
  EXPECT_GT(told_by_shards, 30);
}

TEST(Sequences, TheFirstOfAllAreTheWindowsOfTheStream) {
  std::mt19937_64 random(3);
  const Data data(random_tokens(random, 1000, 50));
  EvalDataConfig config;
  config.seq_len = 7;
  config.choose = Choose::first;
  const Sequences chosen = data.choose(config, Split::all, data.stream->num_samples(7));
  ASSERT_EQ(chosen.size(), 142);
  for (int64_t i = 0; i < chosen.size(); ++i) EXPECT_EQ(chosen.first_token(i), 7 * i);
}

TEST(Sequences, SpacedReachesFromEndToEnd) {
  std::mt19937_64 random(4);
  const Data data(random_tokens(random, 8001, 50));
  EvalDataConfig config;
  config.seq_len = 8;
  config.choose = Choose::spaced;
  for (const int64_t count : {4, 5, 37, 999, 1000}) {
    const Sequences chosen = data.choose(config, Split::all, count);
    EXPECT_LE(chosen.first_token(0), 8001 / 8) << count;
    EXPECT_GE(chosen.first_token(count - 1), 8001 * 7 / 8) << count;
    for (int64_t i = 0; i < count; ++i)
      EXPECT_EQ(chosen.first_token(i), 8 * ((2 * i + 1) * 1000 / (2 * count))) << count;
  }
}

TEST(Sequences, ShuffledIsAnUnbiasedSampleWithoutRepetition) {
  std::mt19937_64 random(5);
  const Data data(random_tokens(random, 401, 50));
  EvalDataConfig config;
  config.seq_len = 10;
  std::map<int64_t, int> drawn;
  std::set<std::string> fingerprints;
  for (config.seed = 0; config.seed < 400; ++config.seed) {
    const Sequences chosen = data.choose(config, Split::all, 10);
    for (int64_t i = 0; i < 10; ++i) ++drawn[chosen.first_token(i)];
    for (int64_t i = 1; i < 10; ++i) ASSERT_LT(chosen.first_token(i - 1), chosen.first_token(i));
    fingerprints.insert(chosen.fingerprint());
  }
  EXPECT_EQ(fingerprints.size(), 400u);
  EXPECT_EQ(drawn.size(), 40u);
  for (const auto& [window, times] : drawn) EXPECT_NEAR(times, 100, 45) << window;  // 5 standard deviations
}

TEST(Sequences, DocumentsAreAnUnbiasedSample) {
  std::vector<int32_t> tokens;
  for (int length = 1; length <= 21; ++length) {  // the first one has no target
    tokens.insert(tokens.end(), static_cast<size_t>(length - 1), 1);
    tokens.push_back(9);
  }
  const Data data(tokens);
  EvalDataConfig config;
  config.seq_len = 10;
  config.separator = {9};
  config.choose = Choose::documents;
  std::map<int64_t, int> drawn;
  for (config.seed = 0; config.seed < 400; ++config.seed) {
    const Sequences chosen = data.choose(config, Split::all, 5);
    int64_t cut = 0;
    for (const Segment& segment : chosen.segments()) {
      ++drawn[segment.document];
      int64_t length = 1;  // from the start: 0 + 1 + ... + (length - 1)
      while (length * (length - 1) / 2 < segment.document) ++length;
      EXPECT_EQ(segment.tokens, std::min<int64_t>(length - 1, 10));
      cut += length > 11;
    }
    EXPECT_EQ(chosen.documents(), 5);
    EXPECT_EQ(chosen.documents_cut(), cut);
  }
  EXPECT_EQ(drawn.size(), 20u);
  for (const auto& [document, times] : drawn) EXPECT_NEAR(times, 100, 45) << document;
}

// The stream is read in pieces of 2^16 tokens forwards, and of 2^10 and more backwards.
TEST(Sequences, SeparatorsAcrossPiecesOfReadingAreFound) {
  EvalDataConfig config;
  config.separator = {1, 2, 3};
  config.seq_len = 4;
  for (int64_t at = 65527; at <= 65543; ++at) {
    std::vector<int32_t> tokens(140000, 0);
    for (int i = 0; i < 3; ++i) tokens[static_cast<size_t>(at + i)] = i + 1;
    const Data data(tokens);
    config.choose = Choose::documents;
    const Sequences documents = data.choose(config, Split::all, 2);
    EXPECT_EQ(documents.segments()[0].document, 0);
    EXPECT_EQ(documents.segments()[1].document, at + 3);
    EXPECT_THROW(data.choose(config, Split::all, 3), ConfigError);
  }
  for (const int64_t back : {1019, 1020, 1021, 1022, 1023, 1024, 1025, 1026, 3070, 3071, 3072, 3073, 40000}) {
    std::vector<int32_t> tokens(140001, 0);
    config.choose = Choose::spaced;
    const int64_t window = 70000;  // of the 35,000 windows the middle one
    for (int i = 0; i < 3; ++i) tokens[static_cast<size_t>(window - back + i)] = i + 1;
    const Sequences middle = Data(tokens).choose(config, Split::all, 1);
    ASSERT_EQ(middle.first_token(0), window);
    ASSERT_EQ(middle.segments().size(), 1u);
    EXPECT_EQ(middle.segments()[0].document, window - back + 3) << back;
  }
}

// Where shards and separator disagree, the separator, which was asked for, decides.
TEST(Sequences, ASeparatorOutweighsTheDocumentsOfTheShards) {
  const std::vector<int32_t> tokens = even_documents(4, 5);
  std::vector<int64_t> halves(20, 0);
  std::fill(halves.begin() + 10, halves.end(), 10);
  const Data data(tokens, halves);
  EvalDataConfig config;
  config.seq_len = 10;
  config.choose = Choose::documents;
  EXPECT_EQ(data.choose(config, Split::all, 2).documents_from(), DocumentsFrom::shards);
  config.separator = {9};
  EXPECT_EQ(data.choose(config, Split::all, 4).documents_from(), DocumentsFrom::separator);
}

TEST(Sequences, TooFewAreRefusedByName) {
  const Data data(even_documents(100, 10));
  EvalDataConfig config;
  config.seq_len = 10;
  config.separator = {9};
  EXPECT_EQ(message_of<ConfigError>([&] { data.choose(config, Split::all, 100); }),
            "data.sequences is 100, but data.shards hold 99 windows of seq_len 10 (1000 tokens)");
  config.split = Split::exploration;
  const auto blocks = blocks_of(*data.stream, config, {}, Split::exploration);
  EXPECT_TRUE(has(message_of<ConfigError>([&] { data.choose(config, Split::exploration, 100); }),
                  "data.sequences is 100, but the exploration split of data.shards holds " +
                      std::to_string(windows_in(blocks, 10)) + " windows of seq_len 10 ("));
  EXPECT_TRUE(has(message_of<ConfigError>([&] { data.choose(config, Split::calibration, 64); }),
                  "splits.calibration_sequences is 64, but the calibration split of data.shards holds "));
  config.choose = Choose::documents;
  config.split = Split::all;
  EXPECT_EQ(message_of<ConfigError>([&] { data.choose(config, Split::all, 101); }),
            "data.sequences is 101, but data.shards hold 100 documents of at least 2 tokens");
  config.separator.clear();
  EXPECT_EQ(message_of<ConfigError>([&] { data.choose(config, Split::all, 1); }),
            "data.choose: documents needs data.separator, which says where they end: data.shards are not all "
            "Megatron-LM datasets, which say so themselves");
}

}  // namespace
}  // namespace depthroute
