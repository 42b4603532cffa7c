// Two runs that should have computed the same thing, reduced to one number: how far apart they are.
#pragma once

#include <cstdint>
#include <string>

namespace depthroute {

struct Distance {
  double figure = 0;  // NaN where one side has a NaN and the other has not
  std::string where;  // of the largest difference, or what was compared
  /// NaN and infinity are outside every bound.
  bool within(double bound) const { return figure <= bound; }
};

/// Two metrics.jsonl: the largest |loss_a - loss_b| in nats over the training steps up to `until` (0: all).
/// Both must have the same steps, at least one of them. Throws DataError.
Distance compare_losses(const std::string& path_a, const std::string& path_b, int64_t until);

/// Two metrics.jsonl: |mean loss_a - mean loss_b| in nats over the last `count` training steps of each.
/// Throws DataError.
Distance compare_mean_losses(const std::string& path_a, const std::string& path_b, int64_t count);

/// Two results files of the same cells: the largest |a - b| / max(1, |b|) over the effects of every cell,
/// the routing's mean weights and, with `tokens`, every token's clean NLL; NaN equals NaN. Throws DataError
/// where the files do not hold the same cells.
Distance compare_results(const std::string& path_a, const std::string& path_b, bool tokens);

}  // namespace depthroute
