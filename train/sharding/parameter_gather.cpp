#include "train/sharding/parameter_gather.h"

#include <algorithm>
#include <numeric>

namespace depthroute {

ParameterGather::ParameterGather(const ParameterLayout& layout, const Partition& partition,
                                 Collectives& collectives)
    : partition_(partition), collectives_(collectives), matrices_size_(layout.matrices_size()) {
  const std::vector<Range>& buckets = partition.buckets();
  const int64_t embedding_end = layout.all().front().numel();
  const auto rank_of = [&](int bucket) {
    const Range& range = buckets[bucket];
    if (range.end > matrices_size_) return 0;
    if (range.begin < embedding_end) return 1;
    return range.begin >= layout.layers_begin() ? 2 : 3;
  };
  order_.resize(buckets.size());
  std::iota(order_.begin(), order_.end(), 0);
  std::stable_sort(order_.begin(), order_.end(), [&](int a, int b) { return rank_of(a) < rank_of(b); });
  tickets_.resize(buckets.size());
  started_.resize(buckets.size(), false);
}

void ParameterGather::start(Stream stream, int bucket, const Tensor& parameters, const Tensor& compute) {
  DR_CHECK(!started_[bucket]);
  const auto [begin, end] = partition_.buckets()[bucket];
  if (compute.defined() && begin < matrices_size_)
    tickets_[bucket] = collectives_.all_gather(stream, compute.slice(begin, end));
  if (!compute.defined() || end > matrices_size_)
    tickets_[bucket] = collectives_.all_gather(stream, parameters.slice(begin, end));
  started_[bucket] = true;
  ++pending_;
}

void ParameterGather::need(Stream stream, int64_t begin, int64_t end) {
  if (pending_ == 0) return;
  for (const int bucket : order_) {
    const Range& range = partition_.buckets()[bucket];
    if (!started_[bucket] || range.end <= begin || range.begin >= end) continue;
    collectives_.wait(stream, tickets_[bucket]);
    started_[bucket] = false;
    --pending_;
  }
}

}  // namespace depthroute
