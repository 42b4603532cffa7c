#include "train/sharding/adamw.h"

#include <algorithm>

#include "kernels/ops/ops.h"

namespace depthroute {

std::vector<DecayRange> decay_ranges(const ParameterLayout& layout) {
  std::vector<DecayRange> ranges;
  for (const Parameter& parameter : layout.all()) {
    if (!ranges.empty() && ranges.back().decay == parameter.decay) continue;
    const int64_t begin = ranges.empty() ? 0 : parameter.offset;
    if (!ranges.empty()) ranges.back().end = begin;
    ranges.push_back({begin, layout.block_size(), parameter.decay});
  }
  return ranges;
}

AdamW::AdamW(const OptimizerConfig& config, const ParameterLayout& layout, const Partition& partition,
             Arena& arena)
    : config_(config), ranges_(decay_ranges(layout)), partition_(partition) {
  ranges_.back().end = partition.padded_size();
  arena.plan(Purpose::optimizer, &m_, {partition.shard_size()});
  arena.plan(Purpose::optimizer, &v_, {partition.shard_size()});
}

void AdamW::update(Stream stream, int64_t t, double lr, int bucket, const Decision& decision,
                   const Tensor& gradients, const Tensor& parameters, const Tensor& compute) {
  ops::AdamwStep step{.lr = static_cast<float>(lr),
                      .beta1 = static_cast<float>(config_.beta1),
                      .beta2 = static_cast<float>(config_.beta2),
                      .eps = static_cast<float>(config_.eps),
                      .weight_decay = 0,
                      .max_norm = static_cast<float>(config_.max_norm),
                      .step = t};
  const OwnedRange owned = partition_.owned(bucket);
  for (const DecayRange& range : ranges_) {
    const int64_t begin = std::max(owned.begin, range.begin), end = std::min(owned.end, range.end);
    if (begin >= end) continue;
    step.weight_decay = range.decay ? static_cast<float>(config_.weight_decay) : 0.0F;
    // Exactly the matrices are decayed and have a copy.
    const bool copied = compute.defined() && range.decay;
    const int64_t at = owned.at + begin - owned.begin, to = at + end - begin;
    ops::adamw(stream, step, decision.norm, decision.loss, gradients.slice(begin, end),
               parameters.slice(begin, end), m_.slice(at, to), v_.slice(at, to),
               copied ? compute.slice(begin, end) : Tensor{});
  }
}

}  // namespace depthroute
