// Adds up what the routing of a clean pass did, over the tokens that count: by segment, and as moments of the
// weights of a batch. On the host, in float64 and in the order of tokens.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "eval/measure/columns.h"
#include "eval/sequences/sequences.h"
#include "train/model/depth_plan.h"

namespace depthroute {

/// Moments of one (site, source). The standard deviation of a constant is exactly 0.
struct WeightMoments {
  int64_t count = 0;
  double mean = 0, sum_squares = 0;  // sum_squares: of deviations from the mean
  double lowest = 0, highest = 0;
  /// Adds one token (Welford 1962).
  void add(double weight);
  /// Adds the tokens that follow (Chan, Golub & LeVeque 1979).
  void add(const WeightMoments& next);
  double std() const;  // over tokens, divided by count; NaN without tokens
  bool operator==(const WeightMoments&) const = default;
};

/// Every single weight is stored as uint16: round(a / kWeightScale), kWeightFill where there is none.
inline constexpr uint16_t kWeightFill = 65535;
inline constexpr double kWeightScale = 1.0 / 65534.0;

class CleanRouting {
 public:
  /// Fills the routing columns of `values`. `segments`: of the batch's sequences, the first of which is
  /// `first_sequence`.
  CleanRouting(const DepthPlan& plan, std::span<const Segment> segments, int64_t first_sequence,
               int64_t seq_len, CleanValues& values);
  /// From now on also stores every weight into `weights` [site, sequence, token, source]. `targets` [N]: -1
  /// where none counts.
  void store_all(std::span<const int32_t> targets, std::vector<uint16_t>& weights);
  /// `a` [N,n], and the shares [N,n] in the order norm, projection, cosine.
  void add_site(int site, std::span<const float> a, const std::array<std::span<const float>, 3>& shares);

 private:
  void add_segments(int site, std::span<const float> values, CleanColumn column);
  void store(int site, std::span<const float> a);

  const DepthPlan& plan_;
  std::span<const Segment> segments_;
  int64_t first_sequence_, seq_len_;
  CleanValues& values_;
  std::span<const int32_t> targets_;
  std::vector<uint16_t>* weights_ = nullptr;
};

}  // namespace depthroute
