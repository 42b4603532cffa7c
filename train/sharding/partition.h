// How the parameter block is divided among ranks (ZeRO-1): into buckets, each exchanged by itself, and every
// bucket into equal pieces, of which a rank owns consecutive ones. The owner of a piece sums its gradient,
// keeps its moments and updates it. Depends on sizes alone: nothing here communicates.
#pragma once

#include <cstdint>
#include <vector>

#include "train/model/parameters.h"

namespace depthroute {

struct PartitionOptions {
  int rank = 0, size = 1;  // this rank, one of `size`
  /// Pieces per bucket, a multiple of size. Deterministic training fixes it, so that sums over pieces do not
  /// depend on the number of ranks; otherwise it is size.
  int pieces = 1;
  int64_t bucket_elements = int64_t{1} << 23;  // about this many per bucket
};

struct Range {
  int64_t begin = 0, end = 0;  // elements
  int64_t size() const { return end - begin; }
  bool operator==(const Range&) const = default;
};

/// A range of the block that this rank owns, and where its moments begin in the rank's own arrays.
struct OwnedRange {
  int64_t begin = 0, end = 0;  // in the block
  int64_t at = 0;              // in m and v
  int64_t size() const { return end - begin; }
};

class Partition {
 public:
  Partition() = default;
  Partition(const ParameterLayout& layout, const PartitionOptions& options);

  const PartitionOptions& options() const { return options_; }
  /// The block is allocated with this many elements: layout.block_size() rounded up so that every bucket can
  /// be divided. The padding is zero in parameters, gradients and moments, and stays so.
  int64_t padded_size() const { return padded_size_; }
  /// In the order of the block, without gaps.
  const std::vector<Range>& buckets() const { return buckets_; }
  /// Elements of m and v on this rank: padded_size() / size.
  int64_t shard_size() const { return padded_size_ / options_.size; }
  /// The pieces of bucket b that this rank owns; their moments begin at buckets()[b].begin / size.
  OwnedRange owned(int bucket) const;
  /// Those of all buckets, neighbours joined; for a single rank one range, the whole block.
  std::vector<OwnedRange> owned_ranges() const;
  int pieces_per_rank() const { return options_.pieces / options_.size; }

 private:
  PartitionOptions options_;
  std::vector<Range> buckets_;
  int64_t padded_size_ = 0;
};

}  // namespace depthroute
