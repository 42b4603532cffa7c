#include "train/sharding/partition.h"

#include <algorithm>

namespace depthroute {

namespace {
constexpr int64_t kPieceAlignment = 64;  // elements: pieces begin on 256-byte boundaries
}

Partition::Partition(const ParameterLayout& layout, const PartitionOptions& options) : options_(options) {
  DR_CHECK(options.size >= 1 && options.rank >= 0 && options.rank < options.size);
  DR_CHECK(options.pieces >= 1 && options.pieces % options.size == 0 && options.bucket_elements >= 1);
  const int64_t unit = kPieceAlignment * options.pieces;
  padded_size_ = round_up(layout.block_size(), unit);
  // The backward pass finishes the embedding and everything but matrices last: they are cut off, so that no
  // bucket of layers waits for them.
  const int64_t layers_begin = std::min(padded_size_, round_up(layout.layers_begin(), unit));
  const int64_t layers_end = std::max(layers_begin, layout.matrices_size() / unit * unit);
  const auto cut = [&](int64_t begin, int64_t end) {
    if (begin == end) return;
    const int64_t parts = std::max<int64_t>(1, (end - begin) / std::max(options.bucket_elements, unit));
    const int64_t width = round_up(div_ceil(end - begin, parts), unit);
    for (int64_t at = begin; at < end; at += width) buckets_.push_back({at, std::min(end, at + width)});
  };
  cut(0, layers_begin);
  cut(layers_begin, layers_end);
  cut(layers_end, padded_size_);
}

OwnedRange Partition::owned(int bucket) const {
  const Range& range = buckets_[bucket];
  const int64_t share = div_exact(range.size(), options_.size);
  const int64_t begin = range.begin + options_.rank * share;
  return {begin, begin + share, div_exact(range.begin, options_.size)};
}

std::vector<OwnedRange> Partition::owned_ranges() const {
  std::vector<OwnedRange> ranges;
  for (int bucket = 0; bucket < static_cast<int>(buckets_.size()); ++bucket) {
    const OwnedRange next = owned(bucket);
    if (!ranges.empty() && ranges.back().end == next.begin)
      ranges.back().end = next.end;
    else
      ranges.push_back(next);
  }
  return ranges;
}

}  // namespace depthroute
