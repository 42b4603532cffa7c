#include "eval/trace.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/ops.h"

namespace depthroute {

void WeightMoments::add(double weight) {
  ++count;
  if (count == 1) {
    mean = lowest = highest = weight;
    return;
  }
  const double deviation = weight - mean;
  mean += deviation / static_cast<double>(count);
  sum_squares += deviation * (weight - mean);
  lowest = std::min(lowest, weight);
  highest = std::max(highest, weight);
}

double WeightMoments::std() const {
  if (count == 0) return std::numeric_limits<double>::quiet_NaN();
  return std::sqrt(sum_squares / static_cast<double>(count));
}

RoutingTrace::RoutingTrace(const DepthPlan& plan) : plan_(plan), entropy_sum_(plan.sites.size(), 0.0) {
  for (const Site& site : plan_.sites) moments_.emplace_back(site.num_sources());
}

void RoutingTrace::add(Stream stream, const Qwen3& model, int64_t first_sequence, const WeightSink& sink) {
  int64_t batch_tokens = 0;
  for (int site = 0; site < static_cast<int>(plan_.sites.size()); ++site) {
    if (!plan_.sites[site].routed) continue;
    const Tensor weights = model.trace(site).weights;
    const int64_t rows = weights.shape[0], n = weights.shape[1];
    batch_tokens = rows;
    staging_.resize(static_cast<size_t>(rows * n));
    ops::copy(stream, weights, host_tensor(staging_.data(), weights.shape));
    synchronize(stream);
    if (sink) sink(site, first_sequence, staging_);
    for (int64_t row = 0; row < rows; ++row) {
      const float* a = staging_.data() + row * n;
      double entropy = 0;
      for (int64_t j = 0; j < n; ++j) {
        const double weight = a[j];
        moments_[site][j].add(weight);
        if (weight > 0) entropy -= weight * std::log(weight);
      }
      entropy_sum_[site] += entropy;
    }
  }
  tokens_ += batch_tokens;
}

double RoutingTrace::entropy(int site) const { return entropy_sum_.at(site) / static_cast<double>(tokens_); }

double RoutingTrace::family_mass(Family family, Sublayer sublayer, Band band) const {
  double sum = 0;
  int64_t sites = 0;
  for (int index = 0; index < static_cast<int>(plan_.sites.size()); ++index) {
    const Site& site = plan_.sites[index];
    if (site.sublayer != sublayer || plan_.band(index) != band) continue;
    ++sites;
    for (int j = 0; j < site.num_sources(); ++j)
      if (site.family(j) == family) sum += moments(index, j).mean;
  }
  return sites ? sum / static_cast<double>(sites) : std::numeric_limits<double>::quiet_NaN();
}

double RoutingTrace::mass(const Cell& cell) const {
  if (!cell.runs()) return std::numeric_limits<double>::quiet_NaN();
  double sum = 0;
  for (const Edge& edge : cell.sources) sum += moments(edge.site, edge.source).mean;
  return sum / cell.sites_ablated;
}

WrapperCheck check_wrapper(const RoutingTrace& trace, std::span<const double> recency_bias) {
  const DepthPlan& plan = trace.plan();
  WrapperCheck check;
  for (int site = 0; site < static_cast<int>(plan.sites.size()); ++site) {
    const int n = plan.sites[site].num_sources();
    const double bias = recency_bias.size() == 1 ? recency_bias[0] : recency_bias[site];
    const ScheduleWeights expected = schedule_weights(n, bias);
    for (int j = 0; j < n; ++j) {
      const WeightMoments& measured = trace.moments(site, j);
      const double weight = j == n - 1 ? expected.current : expected.other;
      const double deviation =
          std::max(std::abs(measured.highest - weight), std::abs(measured.lowest - weight));
      check.largest_deviation = std::max(check.largest_deviation, deviation);
      check.largest_std = std::max(check.largest_std, measured.std());
    }
  }
  return check;
}

}  // namespace depthroute
