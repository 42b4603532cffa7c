#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "configs/base/error.h"
#include "tests/train/tiny_run.h"
#include "train/batches.h"

namespace depthroute {
namespace {

class BatchesTest : public testing_support::TinyRun {
 protected:
  TokenStream stream() const { return TokenStream({path("a.bin"), path("b.bin"), path("c.bin")}, 256); }
};

TEST_F(BatchesTest, EverySequenceIsAWindowOfTheStreamAndTargetsAreTheNextTokens) {
  const TokenStream tokens = stream();
  std::vector<int32_t> all(static_cast<size_t>(tokens.num_tokens()));
  tokens.read(0, all);
  constexpr int64_t kLength = 32, kGlobal = 6;
  const Batches batches(tokens, kLength, DataOrder::shuffled, 11);
  const Sampler sampler(batches.num_samples(), DataOrder::shuffled, 11);
  ASSERT_EQ(batches.num_samples(), 65);

  std::vector<int32_t> x(kGlobal * kLength), y(kGlobal * kLength);
  for (int64_t step = 1; step <= 25; ++step) {  // 150 sequences: across two epoch borders
    batches.at((step - 1) * kGlobal)(0, kGlobal, x, y);
    for (int64_t i = 0; i < kGlobal; ++i) {
      const int64_t begin = sampler.sample((step - 1) * kGlobal + i) * kLength;
      for (int64_t j = 0; j < kLength; ++j) {
        ASSERT_EQ(x[static_cast<size_t>(i * kLength + j)], all[static_cast<size_t>(begin + j)]);
        ASSERT_EQ(y[static_cast<size_t>(i * kLength + j)], all[static_cast<size_t>(begin + j + 1)]);
      }
    }
  }
}

TEST_F(BatchesTest, MicroBatchesAreTheGlobalBatchInOrder) {
  const TokenStream tokens = stream();
  const Batches batches(tokens, 31, DataOrder::shuffled, 2);
  std::vector<int32_t> x(6 * 31), y(6 * 31), part_x(2 * 31), part_y(2 * 31);
  const BatchSource batch = batches.at(60);
  batch(0, 6, x, y);
  for (int64_t first = 0; first < 6; first += 2) {
    batch(first, 2, part_x, part_y);
    EXPECT_TRUE(std::equal(part_x.begin(), part_x.end(), x.begin() + first * 31));
    EXPECT_TRUE(std::equal(part_y.begin(), part_y.end(), y.begin() + first * 31));
  }
}

/// Three streams of 21, 0 + 43 and 5 samples of 32 tokens.
class MixedBatches : public BatchesTest {
 protected:
  std::vector<TokenStream> streams() const {
    std::vector<TokenStream> all;
    all.emplace_back(std::vector{path("a.bin")}, 256);
    all.emplace_back(std::vector{path("b.bin"), path("c.bin")}, 256);
    all.emplace_back(std::vector{path("val.bin")}, 256);
    return all;
  }
};

// Every source is drawn from by its weight to within one sample of every prefix, and each of its epochs holds
// each of its samples once.
TEST_F(MixedBatches, SourcesAreDrawnByWeightAndEachInEpochsOfItsOwn) {
  constexpr int64_t kLength = 32, kPositions = 400;
  const std::vector<TokenStream> all = streams();
  const std::vector<int64_t> parts = {2, 5, 3};
  const Batches batches(all, parts, kLength, DataOrder::shuffled, 11);
  ASSERT_EQ(batches.num_samples(), 21 + 43 + 5);
  std::map<std::vector<int32_t>, std::pair<int64_t, int64_t>>
      sample_of;  // source and sample, by tokens and next one
  for (size_t source = 0; source < all.size(); ++source)
    for (int64_t sample = 0; sample < batches.num_samples(static_cast<int64_t>(source)); ++sample) {
      std::vector<int32_t> tokens(kLength + 1);
      all[source].read(sample * kLength, tokens);
      sample_of[tokens] = {source, sample};
    }
  ASSERT_EQ(std::ssize(sample_of), batches.num_samples()) << "the samples differ";

  std::vector<std::vector<int64_t>> drawn(3);
  std::vector<int32_t> x(kLength), y(kLength);
  for (int64_t k = 0; k < kPositions; ++k) {
    batches.at(k)(0, 1, x, y);
    std::vector<int32_t> tokens = x;
    tokens.push_back(y.back());
    ASSERT_TRUE(std::equal(x.begin() + 1, x.end(), y.begin()));
    ASSERT_TRUE(sample_of.contains(tokens)) << k;
    const auto [source, sample] = sample_of[tokens];
    drawn[static_cast<size_t>(source)].push_back(sample);
    for (size_t i = 0; i < 3; ++i)
      ASSERT_LT(std::abs(10 * std::ssize(drawn[i]) - (k + 1) * parts[i]), 10)
          << "source " << i << " at " << k;
  }
  for (size_t i = 0; i < 3; ++i) {
    const auto samples = static_cast<size_t>(batches.num_samples(static_cast<int64_t>(i)));
    std::vector<std::vector<int64_t>> orders;
    for (size_t begin = 0; begin + samples <= drawn[i].size(); begin += samples) {
      orders.emplace_back(drawn[i].begin() + static_cast<int64_t>(begin),
                          drawn[i].begin() + static_cast<int64_t>(begin + samples));
      std::vector<int64_t> sorted = orders.back();
      std::sort(sorted.begin(), sorted.end());
      for (size_t s = 0; s < samples; ++s) ASSERT_EQ(sorted[s], static_cast<int64_t>(s)) << "source " << i;
    }
    ASSERT_GE(orders.size(), 3u) << "epochs of source " << i;
    EXPECT_NE(orders[0], orders[1]) << "a new order for every epoch";
    EXPECT_EQ(batches.epoch(static_cast<int64_t>(i), kPositions - 1),
              (std::ssize(drawn[i]) - 1) / static_cast<int64_t>(samples));
  }
  EXPECT_EQ(batches.epoch(kPositions - 1), 3) << "of the source that is drawn from least often";
  EXPECT_EQ(batches.epoch(0), 0);
}

// However a batch is cut, by ranks or micro-batches, and wherever a run begins again, its sequences are the
// same.
TEST_F(MixedBatches, APositionStandsForItself) {
  constexpr int64_t kLength = 31, kBatch = 12;
  const std::vector<TokenStream> all = streams();
  const std::vector<int64_t> parts = {1, 7, 2};
  const Batches batches(all, parts, kLength, DataOrder::shuffled, 2);
  std::vector<int32_t> x(kBatch * kLength), y(kBatch * kLength), part_x, part_y;
  for (int64_t step = 0; step < 30; ++step) {
    batches.at(step * kBatch)(0, kBatch, x, y);
    for (const int64_t size : {1, 3, 4, 6}) {
      const Batches again(all, parts, kLength, DataOrder::shuffled, 2);
      part_x.resize(static_cast<size_t>(size * kLength));
      part_y.resize(part_x.size());
      for (int64_t first = kBatch - size; first >= 0; first -= size) {
        again.at(step * kBatch)(first, size, part_x, part_y);
        ASSERT_TRUE(std::equal(part_x.begin(), part_x.end(), x.begin() + first * kLength));
        ASSERT_TRUE(std::equal(part_y.begin(), part_y.end(), y.begin() + first * kLength));
      }
    }
  }
}

TEST_F(MixedBatches, ASingleSourceIsTheStreamItself) {
  std::vector<TokenStream> one;
  one.push_back(stream());
  const Batches mixed(one, std::vector<int64_t>{4}, 32, DataOrder::shuffled, 11);
  const Batches plain(one[0], 32, DataOrder::shuffled, 11);
  std::vector<int32_t> x(32), y(32), mixed_x(32), mixed_y(32);
  for (int64_t k = 0; k < 150; ++k) {
    plain.at(k)(0, 1, x, y);
    mixed.at(k)(0, 1, mixed_x, mixed_y);
    ASSERT_EQ(mixed_x, x);
    ASSERT_EQ(mixed.epoch(k), plain.epoch(k));
    ASSERT_EQ(plain.epoch(k), k / 65);
  }
}

TEST_F(MixedBatches, ASourceWithoutASampleIsNamed) {
  std::vector<TokenStream> all = streams();
  all.emplace_back(std::vector{path("b.bin")}, 256);
  const std::string text =
      message_of([&] { Batches(all, std::vector<int64_t>(4, 1), 32, DataOrder::sequential, 1); });
  EXPECT_EQ(text.rfind(path("b.bin") + ": 3 tokens are too few", 0), 0u) << text;
}

TEST_F(BatchesTest, TooFewTokensIsSaid) {
  const TokenStream tokens = stream();
  try {
    const Batches batches(tokens, tokens.num_tokens(), DataOrder::sequential, 1);
    FAIL();
  } catch (const DataError& error) {
    EXPECT_NE(std::string(error.what()).find("data.seq_len"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace depthroute
