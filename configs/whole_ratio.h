// Weights that a configuration gives as decimal numbers, as the exact ratio that they mean.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace depthroute {

/// The largest sum of a ratio: of 0.123456 and 0.876544 it is 15,625, of any weights with six decimals that
/// add up to 1 at most a million.
inline constexpr int64_t kMostRatioParts = int64_t{1} << 20;

/// The smallest whole numbers in the same ratio as `weights`, which are above 0 and at most 1e6: {7, 3} for
/// {0.7, 0.3}. Nothing if a weight has more than six decimals, or if these numbers add up to more than
/// kMostRatioParts.
std::optional<std::vector<int64_t>> whole_ratio(const std::vector<double>& weights);

}  // namespace depthroute
