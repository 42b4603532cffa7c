#include "train/optimizer.h"

#include "kernels/ops.h"

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

AdamW::AdamW(const OptimizerConfig& config, const ParameterLayout& layout, Arena& arena)
    : config_(config), ranges_(decay_ranges(layout)) {
  arena.plan(Purpose::optimizer, &m_, {layout.block_size()});
  arena.plan(Purpose::optimizer, &v_, {layout.block_size()});
  arena.plan(Purpose::workspace, &norm_, {1});
  if (const int64_t floats = ops::global_norm_workspace(arena.device()))
    arena.plan(Purpose::workspace, &workspace_, {floats});
}

void AdamW::measure(Stream stream, const Tensor& gradients) {
  ops::global_norm(stream, gradients, norm_, workspace_);
}

void AdamW::update(Stream stream, int64_t t, double lr, const Tensor& loss, const Tensor& gradients,
                   const Tensor& parameters, const Tensor& compute) {
  ops::AdamwStep step{.lr = static_cast<float>(lr),
                      .beta1 = static_cast<float>(config_.beta1),
                      .beta2 = static_cast<float>(config_.beta2),
                      .eps = static_cast<float>(config_.eps),
                      .weight_decay = 0,
                      .max_norm = static_cast<float>(config_.max_norm),
                      .step = t};
  for (const DecayRange& range : ranges_) {
    step.weight_decay = range.decay ? static_cast<float>(config_.weight_decay) : 0.0F;
    // Matrices are what is decayed, and what has a copy.
    const bool copied = compute.defined() && range.decay;
    if (copied) DR_CHECK(range.end <= compute.numel());
    ops::adamw(stream, step, norm_, loss, gradients.slice(range.begin, range.end),
               parameters.slice(range.begin, range.end), m_.slice(range.begin, range.end),
               v_.slice(range.begin, range.end), copied ? compute.slice(range.begin, range.end) : Tensor{});
  }
}

}  // namespace depthroute
