// The block is divided without gaps or overlaps, evenly, and in deterministic mode in a way that does not
// depend on the number of processes.
#include <gtest/gtest.h>

#include "configs/base/error.h"
#include "tests/train/tiny_run.h"
#include "train/model/depth_plan.h"
#include "train/sharding/partition.h"
#include "train/step.h"

namespace depthroute {
namespace {

ParameterLayout layout_of(int64_t layers, bool tied) {
  ModelConfig config = testing_support::tiny_config().model;
  config.num_layers = layers;
  config.tie_embeddings = tied;
  return {config, make_depth_plan(config)};
}

struct Case {
  int64_t layers;
  bool tied;
  int size, pieces;
  int64_t bucket_elements;
};

class PartitionOf : public testing::TestWithParam<Case> {};

TEST_P(PartitionOf, EveryElementHasOneOwnerAndOnePlaceAmongItsMoments) {
  const Case& c = GetParam();
  const ParameterLayout layout = layout_of(c.layers, c.tied);
  std::vector<int> owners;
  int64_t shards = 0;
  for (int rank = 0; rank < c.size; ++rank) {
    const Partition partition(
        layout, {.rank = rank, .size = c.size, .pieces = c.pieces, .bucket_elements = c.bucket_elements});
    ASSERT_GE(partition.padded_size(), layout.block_size());
    owners.resize(static_cast<size_t>(partition.padded_size()), 0);
    std::vector<bool> places(static_cast<size_t>(partition.shard_size()), false);
    int64_t end = 0;
    for (int b = 0; b < static_cast<int>(partition.buckets().size()); ++b) {
      const Range& bucket = partition.buckets()[b];
      EXPECT_EQ(bucket.begin, end);
      end = bucket.end;
      EXPECT_EQ(bucket.size() % (64 * c.pieces), 0);
      const OwnedRange owned = partition.owned(b);
      EXPECT_EQ(owned.size() * c.size, bucket.size());
      for (int64_t i = 0; i < owned.size(); ++i) {
        ++owners[static_cast<size_t>(owned.begin + i)];
        EXPECT_FALSE(places[static_cast<size_t>(owned.at + i)]);
        places[static_cast<size_t>(owned.at + i)] = true;
      }
    }
    EXPECT_EQ(end, partition.padded_size());
    int64_t joined = 0;
    for (const OwnedRange& range : partition.owned_ranges()) joined += range.size();
    EXPECT_EQ(joined, partition.shard_size());
    if (c.size == 1) {
      EXPECT_EQ(partition.owned_ranges().size(), 1U);
    }
    shards += partition.shard_size();
  }
  EXPECT_EQ(shards, static_cast<int64_t>(owners.size()));
  for (const int count : owners) ASSERT_EQ(count, 1);
}
INSTANTIATE_TEST_SUITE_P(Sizes, PartitionOf,
                         testing::Values(Case{1, true, 1, 1, 1 << 23}, Case{3, false, 3, 3, 5000},
                                         Case{2, true, 2, 8, 3000}, Case{4, false, 8, 8, 1},
                                         Case{2, false, 7, 7, 100'000'000}));

TEST(Partition, BucketsOfADeterministicRunDoNotDependOnTheNumberOfProcesses) {
  const ParameterLayout layout = layout_of(3, true);
  const Partition one(layout, {.rank = 0, .size = 1, .pieces = 8, .bucket_elements = 4000});
  EXPECT_GT(one.buckets().size(), 5U);
  for (const int size : {2, 4, 8}) {
    const Partition several(layout, {.rank = size - 1, .size = size, .pieces = 8, .bucket_elements = 4000});
    EXPECT_EQ(several.buckets(), one.buckets());
  }
}

TEST(Partition, NoBucketOfLayersWaitsForTheEmbeddingOrTheNorms) {
  const ParameterLayout layout = layout_of(6, false);
  const Partition partition(layout, {.rank = 0, .size = 2, .pieces = 2, .bucket_elements = 2000});
  int64_t of_layers = 0;
  for (const Range& bucket : partition.buckets())
    if (bucket.begin >= layout.layers_begin() && bucket.end <= layout.matrices_size())
      of_layers += bucket.size();
  EXPECT_GT(of_layers, (layout.matrices_size() - layout.layers_begin()) - 4 * 64 * 2);
}

TEST(Processes, TooManyForTheBatchAreRefused) {
  TrainConfig config = testing_support::tiny_config();  // 4 sequences, 2 at a time
  EXPECT_NO_THROW(check_ranks(config, 2));
  EXPECT_THROW(check_ranks(config, 3), ConfigError);
  config.deterministic = true;
  config.train = {.steps = 1, .global_batch = 16, .micro_batch = 1};
  for (const int processes : {1, 2, 4, 8}) EXPECT_NO_THROW(check_ranks(config, processes));
  EXPECT_THROW(check_ranks(config, 3), ConfigError);
  EXPECT_THROW(check_ranks(config, 16), ConfigError);
}

}  // namespace
}  // namespace depthroute
