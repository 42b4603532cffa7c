#include "eval/cells/known_answers.h"

#include <algorithm>
#include <limits>

namespace depthroute {
namespace {

constexpr double kNotJudged = std::numeric_limits<double>::quiet_NaN();
/// The recency schedule's logits are the biases alone, the wrapped model's add zeros to them: equal up to
/// rounding.
constexpr double kScheduleLimit = 1e-5;
/// The same weights, or nearly, out of memory instead of out of the softmax.
constexpr double kWeightsLimit = 1e-4;
/// Sums in another order.
constexpr double kOrderLimit = 1e-3;

/// make(index, site) for every routed site; other sites are left unchanged.
template <typename Make>
std::vector<SiteChange> at_routed_sites(const DepthPlan& plan, Make make) {
  std::vector<SiteChange> changes(plan.sites.size());
  for (size_t site = 0; site < plan.sites.size(); ++site)
    if (plan.sites[site].routed) changes[site] = make(static_cast<int>(site), plan.sites[site]);
  return changes;
}

SiteChange neutral(int, const Site& site) {
  SiteChange change;
  change.offset.assign(site.sources.size(), 0.0f);
  change.scale.assign(site.sources.size(), 1.0f);
  return change;
}

SiteChange doubled(int, const Site& site) {
  SiteChange change;
  change.scale.assign(site.sources.size(), 2.0f);
  return change;
}

/// Uniform weights, but for `bias` on the current state.
SiteChange scheduled(const Site& site, double bias) {
  SiteChange change;
  change.learned_logits = false;
  change.offset.assign(site.sources.size(), 0.0f);
  change.offset.back() = static_cast<float>(bias);
  return change;
}

SiteChange weights_from(WeightSource weights) {
  SiteChange change;
  change.weights = weights;
  return change;
}

/// Every source but the last holds what the next one holds: the order changes, nothing else.
SiteChange permuted(int, const Site& site) {
  SiteChange change;
  const int others = site.num_sources() - 1;
  for (int j = 0; j < others && others > 1; ++j)
    change.substitutions.push_back({j, Replaced::both, {ContentKind::source, (j + 1) % others}});
  return change;
}

}  // namespace

std::vector<KnownAnswer> make_known_answers(const DepthPlan& plan, std::span<const double> recency_bias,
                                            const KnownAnswerOptions& options) {
  const auto identity = at_routed_sites(plan, neutral);
  std::vector<KnownAnswer> known_answers;
  known_answers.push_back({"identity", "exactly 0", 0.0, 0, identity});
  known_answers.push_back({"identity_from_middle", "exactly 0", 0.0, plan.num_sublayers() / 2, identity});
  if (std::ranges::none_of(plan.sites, [](const Site& site) { return site.routed; })) return known_answers;

  const auto rounding = [&](double limit) { return options.fp32 ? limit : kNotJudged; };
  const auto everywhere = [&](WeightSource weights) {
    return at_routed_sites(plan, [&](int, const Site&) { return weights_from(weights); });
  };
  known_answers.push_back(
      {"scale_all_by_2", "0 up to rms_norm_eps", kNotJudged, 0, at_routed_sites(plan, doubled)});
  known_answers.push_back({"uniform_everywhere", "> 0 where routing matters", kNotJudged, 0,
                           at_routed_sites(plan, [](int, const Site& site) { return scheduled(site, 0); })});
  known_answers.push_back(
      {"hold_everywhere", "0 up to rounding", rounding(kWeightsLimit), 0, everywhere(WeightSource::clean)});
  if (plan.max_sources() > 2)
    known_answers.push_back(
        {"permuted_sources", "0 up to rounding", rounding(kOrderLimit), 0, at_routed_sites(plan, permuted)});
  if (recency_bias.empty()) return known_answers;
  known_answers.push_back({"schedule", "0 up to rounding", kScheduleLimit, 0,
                           at_routed_sites(plan, [&](int index, const Site& site) {
                             return scheduled(
                                 site, recency_bias.size() == 1 ? recency_bias[0] : recency_bias[index]);
                           })});
  if (options.calibrated)
    known_answers.push_back(
        {"freeze", "0 up to rounding", rounding(kWeightsLimit), 0, everywhere(WeightSource::calibration)});
  return known_answers;
}

}  // namespace depthroute
