// What the clean run's routing did over all evaluated tokens: mean, standard deviation and entropy of every
// site's weights, and whether a wrapped model's weights are the recency schedule (train/model/SPEC.md §1).
// Batches are added in their order, so that it does not matter who measured them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "eval/cells/grid.h"
#include "eval/measure/clean_routing.h"
#include "eval/measure/columns.h"
#include "train/model/depth_plan.h"

namespace depthroute {

class RoutingTrace {
 public:
  explicit RoutingTrace(const DepthPlan& plan);

  /// Adds the next batch, whose columns have this many tokens that count. Nothing where the model has no
  /// routing.
  void add(const CleanValues& batch, int64_t tokens);

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
  /// run, or has no sources because it sets all weights of a site.
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
