// What the clean run's routing did over all evaluated tokens: mean, standard deviation and entropy of every
// site's weights, in float64, plus the check that a wrapped model's weights are the recency schedule (SPEC
// §1).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "eval/cells.h"
#include "train/model/depth_plan.h"
#include "train/model/qwen3.h"

namespace depthroute {

/// Running moments of one (site, source) in token order (Welford): a constant has a standard deviation of
/// exactly 0.
struct WeightMoments {
  int64_t count = 0;
  double mean = 0, sum_squares = 0;  // sum_squares: of deviations from the mean
  double lowest = 0, highest = 0;
  void add(double weight);
  double std() const;  // over tokens, divided by count; NaN without tokens
};

class RoutingTrace {
 public:
  explicit RoutingTrace(const DepthPlan& plan);

  /// Called once per batch with the weights [N, n] of every routed site, on the host, before they are added.
  /// `first_sequence` is the batch's place in the evaluation.
  using WeightSink = std::function<void(int site, int64_t first_sequence, std::span<const float> weights)>;

  /// Adds the clean pass the model has just made. Sites without routing (plain Qwen3) are left out.
  void add(Stream stream, const Qwen3& model, int64_t first_sequence, const WeightSink& sink = {});

  const DepthPlan& plan() const { return plan_; }
  bool empty() const { return tokens_ == 0; }
  int64_t tokens() const { return tokens_; }
  const WeightMoments& moments(int site, int source) const { return moments_.at(site).at(source); }
  /// Mean over tokens of -sum_j a_j ln a_j, nats.
  double entropy(int site) const;
  /// Mean over the sites of one sublayer kind and band of the weight on a family (0 at a site without it):
  /// over the families it sums to 1. NaN if there is no such site. Band::none: the final site.
  double family_mass(Family family, Sublayer sublayer, Band band) const;
  /// Mean over the cell's ablated sites of the clean weight on its sources. NaN if it does not run.
  double mass(const Cell& cell) const;

 private:
  const DepthPlan plan_;
  std::vector<std::vector<WeightMoments>> moments_;  // [site][source]
  std::vector<double> entropy_sum_;
  std::vector<float> staging_;
  int64_t tokens_ = 0;
};

/// Measured weights of a wrapped model against schedule_weights(): both are 0 up to rounding.
struct WrapperCheck {
  double largest_deviation = 0;  // of any weight of any token from the formula
  double largest_std = 0;        // over tokens, of any (site, source)
};
/// `recency_bias`: one value, or one per site.
WrapperCheck check_wrapper(const RoutingTrace& trace, std::span<const double> recency_bias);

}  // namespace depthroute
