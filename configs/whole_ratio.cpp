#include "configs/whole_ratio.h"

#include <cmath>
#include <limits>
#include <numeric>

namespace depthroute {
namespace {

/// Whether a decimal number times a power of ten is whole, but for the rounding of both to double.
bool is_whole(double value) {
  return std::abs(value - std::round(value)) <= 4 * std::numeric_limits<double>::epsilon() * value;
}

}  // namespace

std::optional<std::vector<int64_t>> whole_ratio(const std::vector<double>& weights) {
  constexpr double kLargestScale = 1e6;
  double scale = 1;
  for (const double weight : weights)
    while (!is_whole(weight * scale))
      if ((scale *= 10) > kLargestScale) return std::nullopt;
  std::vector<int64_t> parts;
  int64_t divisor = 0;
  for (const double weight : weights) {
    parts.push_back(std::llround(weight * scale));
    divisor = std::gcd(divisor, parts.back());
  }
  int64_t sum = 0;
  for (int64_t& part : parts) {
    part /= divisor;
    sum += part;  // at most 1e12 each
    if (part > kMostRatioParts || sum > kMostRatioParts) return std::nullopt;
  }
  return parts;
}

}  // namespace depthroute
