#include "eval/measure/clean_routing.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace depthroute {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr CleanColumn kShares[] = {CleanColumn::norm_share, CleanColumn::projection_share,
                                   CleanColumn::cosine};

}  // namespace

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
  if (count == 0) return kNan;
  return std::sqrt(sum_squares / static_cast<double>(count));
}

CleanRouting::CleanRouting(const DepthPlan& plan, std::span<const Segment> segments, int64_t first_sequence,
                           int64_t seq_len, CleanValues& values)
    : plan_(plan), segments_(segments), first_sequence_(first_sequence), seq_len_(seq_len), values_(values) {
  if (!plan.sites.front().routed) return;
  const size_t sites = plan.sites.size(), widest = static_cast<size_t>(plan.max_sources());
  values_[CleanColumn::entropy].assign(sites, 0.0);
  for (const CleanColumn moment : {CleanColumn::weight_mean, CleanColumn::weight_sum_squares,
                                   CleanColumn::weight_lowest, CleanColumn::weight_highest})
    values_[moment].assign(sites * widest, kNan);
  values_[CleanColumn::weight].assign(segments.size() * sites * widest, kNan);
  for (const CleanColumn share : kShares) values_[share].assign(segments.size() * sites * widest, kNan);
}

void CleanRouting::store_all(std::span<const int32_t> targets, std::vector<uint16_t>& weights) {
  targets_ = targets;
  weights_ = &weights;
  weights.assign(plan_.sites.size() * targets.size() * static_cast<size_t>(plan_.max_sources()), kWeightFill);
}

void CleanRouting::store(int site, std::span<const float> a) {
  const size_t n = plan_.sites[site].sources.size(), widest = static_cast<size_t>(plan_.max_sources());
  uint16_t* stored = weights_->data() + static_cast<size_t>(site) * targets_.size() * widest;
  for (size_t row = 0; row < targets_.size(); ++row) {
    if (targets_[row] < 0) continue;
    for (size_t j = 0; j < n; ++j)
      stored[row * widest + j] =
          static_cast<uint16_t>(std::lround(std::clamp(a[row * n + j], 0.0f, 1.0f) / kWeightScale));
  }
}

void CleanRouting::add_segments(int site, std::span<const float> values, CleanColumn column) {
  const int64_t n = plan_.sites[site].num_sources(), widest = plan_.max_sources();
  const int64_t sites = static_cast<int64_t>(plan_.sites.size());
  for (size_t s = 0; s < segments_.size(); ++s) {
    const Segment& segment = segments_[s];
    const int64_t begin = (segment.sequence - first_sequence_) * seq_len_ + segment.first_token;
    double* const sums = values_[column].data() + (static_cast<int64_t>(s) * sites + site) * widest;
    std::fill(sums, sums + n, 0.0);
    for (int64_t row = begin; row < begin + segment.tokens; ++row)
      for (int64_t j = 0; j < n; ++j) sums[j] += static_cast<double>(values[row * n + j]);
  }
}

void CleanRouting::add_site(int site, std::span<const float> a,
                            const std::array<std::span<const float>, 3>& shares) {
  const int64_t n = plan_.sites[site].num_sources(), widest = plan_.max_sources();
  std::vector<WeightMoments> moments(static_cast<size_t>(n));
  double entropy_sum = 0;
  for (const Segment& segment : segments_) {
    const int64_t begin = (segment.sequence - first_sequence_) * seq_len_ + segment.first_token;
    for (int64_t row = begin; row < begin + segment.tokens; ++row) {
      double entropy = 0;
      for (int64_t j = 0; j < n; ++j) {
        const double weight = a[row * n + j];
        moments[j].add(weight);
        if (weight > 0) entropy -= weight * std::log(weight);
      }
      entropy_sum += entropy;
    }
  }
  values_[CleanColumn::entropy][site] = entropy_sum;
  for (int64_t j = 0; j < n; ++j) {
    values_[CleanColumn::weight_mean][site * widest + j] = moments[j].mean;
    values_[CleanColumn::weight_sum_squares][site * widest + j] = moments[j].sum_squares;
    values_[CleanColumn::weight_lowest][site * widest + j] = moments[j].lowest;
    values_[CleanColumn::weight_highest][site * widest + j] = moments[j].highest;
  }
  add_segments(site, a, CleanColumn::weight);
  for (int k = 0; k < 3; ++k) add_segments(site, shares[k], kShares[k]);
  if (weights_) store(site, a);
}

}  // namespace depthroute
