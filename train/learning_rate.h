// Learning rate by step (train/model/SPEC.md §3). Depends on the step alone, so a resumed run cannot drift
// from an uninterrupted one.
#pragma once

#include <cstdint>

#include "configs/train_config.h"

namespace depthroute {

/// Learning rate of step t, 1-based, of a run of `steps`. With w = warmup:
///   t <= w:    lr t / w
///   cosine:    lr_min + (lr - lr_min) (1 + cos(pi (t - w) / (steps - w))) / 2, so lr_min at the last step
///   wsd:       lr until steps - d, then straight to lr_min at the last step; d = round(decay_fraction steps)
///   constant:  lr
/// Warm-up comes first where it overlaps the decay of wsd.
double learning_rate(const OptimizerConfig& config, int64_t steps, int64_t t);

}  // namespace depthroute
