// Buckets are gathered in the order in which a forward pass needs them, and waited for when it does, not earlier.
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "kernels/device.h"
#include "tests/train/tiny_run.h"
#include "train/model/depth_plan.h"
#include "train/model/qwen3.h"
#include "train/sharding/parameter_gather.h"

namespace depthroute {
namespace {

/// Two ranks, of which the other one does not exist: calls are noted.
class NotedCollectives : public Collectives {
 public:
  NotedCollectives() : Collectives(0, 2) {}
  std::string describe() const override { return "noted"; }
  int64_t reduce_scatter_workspace(int64_t) const override { return 0; }
  Ticket reduce_scatter(Stream, const Tensor&, const Tensor&) override { return ++last_; }
  Ticket all_gather(Stream, const Tensor& x) override {
    gathered.push_back(x);
    return ++last_;
  }
  Ticket all_reduce(Stream, const Tensor&) override { return ++last_; }
  Ticket broadcast(Stream, const Tensor&, int) override { return ++last_; }
  void barrier() override {}
  void wait(Stream, Ticket ticket) override { waited.push_back(ticket); }
  void synchronize(Stream) override {}
  Statistics statistics() const override { return {}; }

  std::vector<Tensor> gathered;
  std::vector<Ticket> waited;

 private:
  Ticket last_ = 0;
};

class Gathering : public testing::TestWithParam<bool> {
 protected:
  Gathering() : arena_(Device::cpu) {
    config_ = testing_support::tiny_config().model;
    config_.num_layers = 4;
    config_.tie_embeddings = GetParam();
    layout_ = ParameterLayout(config_, make_depth_plan(config_));
    partition_ = Partition(layout_, {.rank = 0, .size = 2, .pieces = 2, .bucket_elements = 2000});
    values_.resize(static_cast<size_t>(partition_.padded_size()));
    block_ = host_tensor(values_.data(), {partition_.padded_size()});
  }
  void start_all(ParameterGather& gather) {
    for (const int bucket : gather.order()) gather.start(stream_, bucket, block_, {});
  }

  const Stream stream_{Device::cpu, nullptr};
  ModelConfig config_;
  ParameterLayout layout_;
  Partition partition_;
  Arena arena_;
  std::vector<float> values_;
  Tensor block_;
  NotedCollectives calls_;
};

TEST_P(Gathering, TakesEveryBucketOnceInTheOrderOfTheForwardPass) {
  ParameterGather gather(layout_, partition_, calls_);
  const std::vector<Range>& buckets = partition_.buckets();
  ASSERT_GT(buckets.size(), 8U);
  std::vector<int> sorted = gather.order();
  EXPECT_GT(buckets[sorted.front()].end, layout_.matrices_size()) << "norms first";
  EXPECT_EQ(buckets[sorted[1]].begin, 0) << "then the embedding";
  const int64_t last = buckets[sorted.back()].begin;
  if (GetParam())
    EXPECT_GT(last, layout_.layer_begin(3)) << "the last layer last";
  else
    EXPECT_LT(last, layout_.layers_begin()) << "the head last";
  std::sort(sorted.begin(), sorted.end());
  for (size_t i = 0; i < sorted.size(); ++i) EXPECT_EQ(sorted[i], static_cast<int>(i));
}

TEST_P(Gathering, WaitsForWhatIsNeededAndOnlyOnce) {
  ParameterGather gather(layout_, partition_, calls_);
  EXPECT_FALSE(gather.under_way());
  gather.need_all(stream_);
  EXPECT_TRUE(calls_.waited.empty());
  start_all(gather);
  EXPECT_EQ(calls_.gathered.size(), partition_.buckets().size());
  EXPECT_TRUE(gather.under_way());
  const int64_t begin = layout_.layer_begin(1), end = layout_.layer_begin(2);
  gather.need(stream_, begin, end);
  std::vector<Collectives::Ticket> expected;
  for (size_t i = 0; i < gather.order().size(); ++i) {
    const Range& bucket = partition_.buckets()[gather.order()[i]];
    if (bucket.begin < end && bucket.end > begin) expected.push_back(i + 1);
  }
  EXPECT_EQ(calls_.waited, expected);
  gather.need(stream_, begin, end);
  EXPECT_EQ(calls_.waited, expected);
  gather.need_all(stream_);
  EXPECT_EQ(calls_.waited.size(), partition_.buckets().size());
  EXPECT_FALSE(gather.under_way());
}

TEST_P(Gathering, SendsTheCopiesOfMatricesAndTheRestAsTheyAre) {
  ParameterGather gather(layout_, partition_, calls_);
  std::vector<uint16_t> copies(values_.size());
  const Tensor compute = {copies.data(), {partition_.padded_size()}, DType::bf16, Device::cpu};
  for (const int bucket : gather.order()) gather.start(stream_, bucket, block_, compute);
  for (const Tensor& x : calls_.gathered) {
    if (x.dtype == DType::bf16) continue;
    EXPECT_GT(static_cast<const float*>(x.pointer) + x.numel(), values_.data() + layout_.matrices_size());
  }
  int64_t copied = 0;
  for (const Tensor& x : calls_.gathered) copied += x.dtype == DType::bf16 ? x.numel() : 0;
  EXPECT_GE(copied, layout_.matrices_size());
}

// The model says what it needs in time: after all its announcements nothing is under way, and each layer's matrices
// are announced right before it.
TEST_P(Gathering, AForwardPassAnnouncesEverythingInItsOrder) {
  Qwen3 model(config_,
              {.micro_batch = 1, .seq_len = 4, .training = true, .block_size = partition_.padded_size()},
              arena_);
  arena_.allocate();
  ParameterGather gather(layout_, partition_, calls_);
  start_all(gather);
  std::vector<int64_t> begins;
  std::vector<int32_t> tokens = {1, 2, 3, 4};
  model.forward(stream_, host_tensor(tokens.data(), {1, 4}), {}, 0, [&](int64_t begin, int64_t end) {
    begins.push_back(begin);
    EXPECT_LT(begin, end);
    gather.need(stream_, begin, end);
  });
  EXPECT_FALSE(gather.under_way());
  EXPECT_TRUE(std::is_sorted(calls_.waited.begin(), calls_.waited.end())) << "gathered in the order of need";
  std::vector<int64_t> expected = {layout_.matrices_size(), 0};
  for (int layer = 0; layer < 4; ++layer) expected.push_back(layout_.layer_begin(layer));
  expected.push_back(0);
  EXPECT_EQ(begins, expected);
}

INSTANTIATE_TEST_SUITE_P(Heads, Gathering, testing::Bool(),
                         [](const auto& test) { return test.param ? "Tied" : "Untied"; });

}  // namespace
}  // namespace depthroute
