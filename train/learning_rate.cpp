#include "train/learning_rate.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace depthroute {

double learning_rate(const OptimizerConfig& config, int64_t steps, int64_t t) {
  const double lr = config.lr, lr_min = config.lr_min;
  if (t <= config.warmup) return lr * static_cast<double>(t) / static_cast<double>(config.warmup);
  if (config.lr_decay == LearningRateDecay::constant) return lr;

  if (config.lr_decay == LearningRateDecay::cosine) {
    const double progress = static_cast<double>(t - config.warmup) /
                            static_cast<double>(std::max<int64_t>(steps - config.warmup, 1));
    return lr_min + 0.5 * (lr - lr_min) * (1.0 + std::cos(std::numbers::pi * std::min(progress, 1.0)));
  }

  // wsd: constant, then linear.
  const int64_t wanted = std::llround(config.decay_fraction * static_cast<double>(steps));
  const int64_t start = std::max(steps - wanted, config.warmup);
  if (t <= start || steps <= start) return lr;
  const double progress = static_cast<double>(t - start) / static_cast<double>(steps - start);
  return lr + (lr_min - lr) * std::min(progress, 1.0);
}

}  // namespace depthroute
