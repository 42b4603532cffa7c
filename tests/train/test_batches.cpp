#include <gtest/gtest.h>

#include <algorithm>
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
