// Gives every rank the parameters that others have updated, bucket by bucket while the next forward pass
// already runs: it waits for a bucket when it comes to the first layer that reads it.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/collectives/collectives.h"
#include "train/model/parameters.h"
#include "train/sharding/partition.h"

namespace depthroute {

class ParameterGather {
 public:
  /// `partition` and `collectives` must outlive this object.
  ParameterGather(const ParameterLayout& layout, const Partition& partition, Collectives& collectives);
  ParameterGather(const ParameterGather&) = delete;
  ParameterGather& operator=(const ParameterGather&) = delete;

  /// The buckets in the order in which a forward pass needs them: norms, pseudo-queries and biases, the
  /// embedding, the layers, an untied head. Gather them in this order, the same on all ranks.
  const std::vector<int>& order() const { return order_; }
  /// Starts gathering what a forward pass reads of a bucket: of `compute`, the bf16 copy of the matrices, or
  /// else of the float32 `parameters`. Both are the whole block; until the bucket has been needed nobody may
  /// touch it.
  void start(Stream stream, int bucket, const Tensor& parameters, const Tensor& compute);
  /// Work that is put on `stream` from now on finds elements [begin, end) complete. Waits for nothing that is
  /// not under way.
  void need(Stream stream, int64_t begin, int64_t end);
  void need_all(Stream stream) { need(stream, 0, partition_.padded_size()); }
  /// Whether buckets have been started that nobody has needed yet.
  bool under_way() const { return pending_ > 0; }

 private:
  const Partition& partition_;
  Collectives& collectives_;
  int64_t matrices_size_;
  std::vector<int> order_;
  std::vector<Collectives::Ticket> tickets_;  // per bucket, of its last call
  std::vector<bool> started_;                 // per bucket: and not needed since
  int pending_ = 0;
};

}  // namespace depthroute
