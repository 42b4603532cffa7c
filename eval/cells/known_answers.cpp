#include "eval/cells/known_answers.h"

#include <limits>

#include "eval/cells/grid.h"

namespace depthroute {
namespace {

constexpr double kNotJudged = std::numeric_limits<double>::quiet_NaN();
/// The recency schedule's logits are the biases alone, the wrapped model's add zeros to them: equal up to
/// rounding.
constexpr double kScheduleLimit = 1e-5;

/// make(site, number of sources) for every routed site; other sites are left unchanged.
template <typename Make>
std::vector<SiteIntervention> at_routed_sites(const DepthPlan& plan, Make make) {
  std::vector<SiteIntervention> site_interventions(plan.sites.size());
  for (size_t site = 0; site < plan.sites.size(); ++site)
    if (plan.sites[site].routed)
      site_interventions[site] = make(static_cast<int>(site), plan.sites[site].sources.size());
  return site_interventions;
}

SiteIntervention neutral(size_t n) {
  SiteIntervention site;
  site.offset.assign(n, 0.0f);
  site.scale.assign(n, 1.0f);
  return site;
}

}  // namespace

std::vector<KnownAnswer> make_known_answers(const DepthPlan& plan, std::span<const double> recency_bias) {
  const auto identity = at_routed_sites(plan, [](int, size_t n) { return neutral(n); });
  std::vector<KnownAnswer> known_answers;
  known_answers.push_back({"identity", "exactly 0", 0.0, 0, identity});
  known_answers.push_back({"identity_from_middle", "exactly 0", 0.0, plan.num_sublayers() / 2, identity});
  bool routed = false;
  for (const Site& site : plan.sites) routed = routed || site.routed;
  if (!routed) return known_answers;

  known_answers.push_back(
      {"scale_all_by_2", "0 up to rms_norm_eps", kNotJudged, 0, at_routed_sites(plan, [](int, size_t n) {
         SiteIntervention site;
         site.scale.assign(n, 2.0f);
         return site;
       })});
  known_answers.push_back({"uniform_everywhere", "> 0 where routing matters", kNotJudged, 0,
                           at_routed_sites(plan, [](int, size_t n) {
                             return site_intervention(Intervention::uniform, 0, std::vector<bool>(n, true));
                           })});
  if (recency_bias.empty()) return known_answers;
  known_answers.push_back(
      {"schedule", "0 up to rounding", kScheduleLimit, 0, at_routed_sites(plan, [&](int site, size_t n) {
         const double b = recency_bias.size() == 1 ? recency_bias[0] : recency_bias[site];
         return site_intervention(Intervention::schedule, b, std::vector<bool>(n, true));
       })});
  return known_answers;
}

}  // namespace depthroute
