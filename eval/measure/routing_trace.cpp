#include "eval/measure/routing_trace.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "configs/base/check.h"
#include "kernels/ops/ops.h"

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

void WeightMoments::add(const WeightMoments& next) {
  if (count == 0 || next.count == 0) {
    if (count == 0) *this = next;
    return;
  }
  const double ours = static_cast<double>(count), theirs = static_cast<double>(next.count);
  const double deviation = next.mean - mean, share = theirs / (ours + theirs);
  mean += deviation * share;
  sum_squares += next.sum_squares + deviation * deviation * ours * share;
  lowest = std::min(lowest, next.lowest);
  highest = std::max(highest, next.highest);
  count += next.count;
}

double WeightMoments::std() const {
  if (count == 0) return std::numeric_limits<double>::quiet_NaN();
  return std::sqrt(sum_squares / static_cast<double>(count));
}

namespace {

/// Adds up one site's weights a [rows, n], in token order.
void add_site(std::span<const float> a, int64_t n, std::span<WeightMoments> moments, double& entropy_sum) {
  for (size_t row = 0; row < a.size(); row += static_cast<size_t>(n)) {
    double entropy = 0;
    for (int64_t j = 0; j < n; ++j) {
      const double weight = a[row + j];
      moments[j].add(weight);
      if (weight > 0) entropy -= weight * std::log(weight);
    }
    entropy_sum += entropy;
  }
}

void store_site(std::span<const float> a, int64_t n, int64_t widest, uint16_t* stored) {
  for (size_t row = 0; row < a.size() / n; ++row)
    for (int64_t j = 0; j < n; ++j)
      stored[row * widest + j] =
          static_cast<uint16_t>(std::lround(std::clamp(a[row * n + j], 0.0f, 1.0f) * 65535.0f));
}

}  // namespace

RoutingRecord measure_routing(Stream stream, const Qwen3& model, bool all_weights) {
  const DepthPlan& plan = model.plan();
  const int64_t widest = plan.max_sources();
  RoutingRecord record;
  std::vector<float> staging;
  for (int site = 0; site < static_cast<int>(plan.sites.size()); ++site) {
    if (!plan.sites[site].routed) continue;
    const Tensor weights = model.trace(site).weights;  // [N, n]
    const int64_t rows = weights.shape[0], n = weights.shape[1];
    staging.resize(static_cast<size_t>(rows * n));
    ops::copy(stream, weights, host_tensor(staging.data(), weights.shape));
    synchronize(stream);
    record.tokens = rows;
    record.entropy.resize(plan.sites.size());
    const size_t first = record.moments.size();
    record.moments.resize(first + static_cast<size_t>(n));
    add_site(staging, n, std::span(record.moments).subspan(first), record.entropy[site]);
    if (!all_weights) continue;
    record.weights.resize(plan.sites.size() * static_cast<size_t>(rows * widest));
    store_site(staging, n, widest, record.weights.data() + site * rows * widest);
  }
  return record;
}

RoutingTrace::RoutingTrace(const DepthPlan& plan) : plan_(plan), entropy_sum_(plan.sites.size(), 0.0) {
  for (const Site& site : plan_.sites) moments_.emplace_back(site.num_sources());
}

void RoutingTrace::add(const RoutingRecord& batch) {
  if (batch.tokens == 0) return;
  DR_CHECK(batch.entropy.size() == plan_.sites.size());
  size_t next = 0;
  for (size_t site = 0; site < plan_.sites.size(); ++site) {
    entropy_sum_[site] += batch.entropy[site];
    for (WeightMoments& moments : moments_[site]) moments.add(batch.moments.at(next++));
  }
  DR_CHECK(next == batch.moments.size());
  tokens_ += batch.tokens;
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
