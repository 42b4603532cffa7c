#include "train/sharding/gradient_sum.h"

#include <algorithm>
#include <bit>

#include "kernels/ops/ops.h"

namespace depthroute {

GradientSum::GradientSum(const ParameterLayout& layout, const Partition& partition, Collectives& collectives,
                         Arena& arena)
    : partition_(partition), collectives_(collectives), matrices_size_(layout.matrices_size()) {
  const std::vector<Range>& buckets = partition.buckets();
  // The backward pass goes from the last layer to the first; embedding, norms and queries are complete at its
  // end.
  for (int b = static_cast<int>(buckets.size()) - 1; b >= 0; --b)
    if (buckets[b].begin >= layout.layers_begin() && buckets[b].end <= matrices_size_) order_.push_back(b);
  for (int b = static_cast<int>(buckets.size()) - 1; b >= 0; --b)
    if (buckets[b].begin < layout.layers_begin() || buckets[b].end > matrices_size_) order_.push_back(b);
  tickets_.resize(buckets.size());

  const auto slices = static_cast<unsigned>(partition.pieces_per_rank());
  DR_CHECK(std::has_single_bit(slices));
  taken_.resize(static_cast<size_t>(std::countr_zero(slices)));
  for (Tensor& block : taken_) arena.plan(Purpose::gradients, &block, {partition.padded_size()});
  int64_t largest = 0;
  for (const Range& bucket : buckets)
    largest = std::max(largest, collectives.reduce_scatter_workspace(bucket.size()));
  if (largest > 0) arena.plan(Purpose::workspace, &workspace_, {largest});
}

// Works like a binary counter: the levels of the trailing ones of `index` are full and are carried.
void GradientSum::take(Stream stream, int index, const Tensor& gradients) {
  const int carries = std::countr_one(static_cast<unsigned>(index));
  add_taken(stream, carries, gradients, {0, partition_.padded_size()});
  ops::copy(stream, gradients, taken_[static_cast<size_t>(carries)]);
}

void GradientSum::add_taken(Stream stream, int levels, const Tensor& gradients, const Range& range) {
  for (int level = 0; level < levels; ++level)
    ops::add(stream, taken_[static_cast<size_t>(level)].slice(range.begin, range.end),
             gradients.slice(range.begin, range.end));
}

void GradientSum::complete(Stream stream, int64_t begin, const Tensor& gradients) {
  for (; next_ < order_.size(); ++next_) {
    const Range& bucket = partition_.buckets()[order_[next_]];
    if (begin > 0 && (bucket.begin < begin || bucket.end > matrices_size_)) return;
    add_taken(stream, static_cast<int>(taken_.size()), gradients, bucket);
    tickets_[order_[next_]] =
        collectives_.reduce_scatter(stream, gradients.slice(bucket.begin, bucket.end), workspace_);
  }
  next_ = 0;
}

void GradientSum::wait(Stream stream, int bucket) { collectives_.wait(stream, tickets_[bucket]); }

}  // namespace depthroute
