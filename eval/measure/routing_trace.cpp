#include "eval/measure/routing_trace.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "configs/base/check.h"

namespace depthroute {

RoutingTrace::RoutingTrace(const DepthPlan& plan) : plan_(plan), entropy_sum_(plan.sites.size(), 0.0) {
  for (const Site& site : plan_.sites) moments_.emplace_back(site.num_sources());
}

void RoutingTrace::add(const CleanValues& batch, int64_t tokens) {
  const std::vector<double>& means = batch[CleanColumn::weight_mean];
  if (means.empty()) return;
  const size_t widest = static_cast<size_t>(plan_.max_sources());
  DR_CHECK(means.size() == plan_.sites.size() * widest);
  for (size_t site = 0; site < plan_.sites.size(); ++site) {
    entropy_sum_[site] += batch[CleanColumn::entropy][site];
    for (size_t j = 0; j < plan_.sites[site].sources.size(); ++j) {
      const size_t at = site * widest + j;
      moments_[site][j].add({tokens, means[at], batch[CleanColumn::weight_sum_squares][at],
                             batch[CleanColumn::weight_lowest][at], batch[CleanColumn::weight_highest][at]});
    }
  }
  tokens_ += tokens;
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
  const bool whole_sites = cell.intervention && acts_on_all_sources(*cell.intervention);
  if (!cell.runs() || whole_sites) return std::numeric_limits<double>::quiet_NaN();
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
