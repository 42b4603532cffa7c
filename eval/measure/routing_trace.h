// What the clean run's routing did: mean, standard deviation and entropy of every site's weights over all
// evaluated tokens, in float64, and whether a wrapped model's weights are the recency schedule
// (train/model/SPEC.md §1). Measured batch by batch, on any rank; the batches' sums are added in their order,
// so that it does not matter which.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "eval/cells/grid.h"
#include "train/model/depth_plan.h"
#include "train/model/qwen3.h"

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

/// What part files store of WeightMoments; the count is that of the batch.
struct MomentField {
  double WeightMoments::*value;
  const char *name, *long_name;
};
inline constexpr MomentField kMomentFields[] = {
    {&WeightMoments::mean, "weight_mean", "mean weight over the batch's tokens, clean run"},
    {&WeightMoments::sum_squares, "weight_sum_squares",
     "sum of squared deviations of the weight from its mean"},
    {&WeightMoments::lowest, "weight_lowest", "smallest weight of any token"},
    {&WeightMoments::highest, "weight_highest", "largest weight of any token"},
};

inline constexpr const char* kWeightsLongName =
    "weight of a source, times 65535 and rounded; 0 where a site has fewer sources";

/// What one batch's clean pass measured. All empty where the model has no routing.
struct RoutingRecord {
  int64_t tokens = 0;
  std::vector<WeightMoments> moments;  // [sources of site 0, of site 1, ...]
  std::vector<double> entropy;         // [site] sum over tokens of -sum_j a_j ln a_j, nats
  /// [site, sequence, token, max_sources] round(65535 a), 0 where a site has fewer sources; empty unless
  /// asked for.
  std::vector<uint16_t> weights;
  bool operator==(const RoutingRecord&) const = default;
};

/// Reads the routing of the clean pass the model has just run. Sites without routing (plain Qwen3) are left
/// out.
RoutingRecord measure_routing(Stream stream, const Qwen3& model, bool all_weights);

class RoutingTrace {
 public:
  explicit RoutingTrace(const DepthPlan& plan);

  /// Adds the next batch.
  void add(const RoutingRecord& batch);

  const DepthPlan& plan() const { return plan_; }
  bool empty() const { return tokens_ == 0; }
  int64_t tokens() const { return tokens_; }
  const WeightMoments& moments(int site, int source) const { return moments_.at(site).at(source); }
  /// Returns the mean over tokens of -sum_j a_j ln a_j, nats.
  double entropy(int site) const;
  /// Returns the mean over the sites of one sublayer kind and band of the weight on a family, 0 at a site
  /// without it. The families' sum to 1. NaN if there is no such site. Band::none: the final site.
  double family_mass(Family family, Sublayer sublayer, Band band) const;
  /// Returns the mean over the cell's ablated sites of the clean weight on its sources; NaN if it does not
  /// run.
  double mass(const Cell& cell) const;

 private:
  const DepthPlan plan_;
  std::vector<std::vector<WeightMoments>> moments_;  // [site][source]
  std::vector<double> entropy_sum_;
  int64_t tokens_ = 0;
};

/// How far a wrapped model's weights are from schedule_weights(). Both are 0 up to rounding.
struct WrapperCheck {
  double largest_deviation = 0;  // of the weight of any token from the formula
  double largest_std = 0;        // over tokens, at any (site, source)
};
/// `recency_bias`: one value, or one per site.
WrapperCheck check_wrapper(const RoutingTrace& trace, std::span<const double> recency_bias);

}  // namespace depthroute
