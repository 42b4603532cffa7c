#include "eval/cells/interventions.h"

#include <algorithm>
#include <limits>

namespace depthroute {
namespace {

std::vector<bool> choose(const Site& site, const SourceChoice& choice, bool distinct) {
  std::vector<bool> named(site.sources.size());
  for (int j = 0; j < site.num_sources(); ++j) named[j] = choice.contains(site, j);
  if (!distinct) return named;
  std::vector<bool> chosen = named;
  for (int j = 0; j < site.num_sources(); ++j) {
    for (int k = 0; k < site.num_sources(); ++k)
      if (named[k] && site.sources[j] == site.sources[k]) chosen[j] = true;
  }
  return chosen;
}

/// The sources an intervention changes: `only` changes those that are not chosen, all others the chosen ones.
std::vector<bool> touched_sources(Intervention intervention, const std::vector<bool>& chosen) {
  std::vector<bool> touched = chosen;
  if (intervention == Intervention::only) touched.flip();
  return touched;
}

bool has_untouched_copy(const Site& site, const std::vector<bool>& touched) {
  for (int j = 0; j < site.num_sources(); ++j) {
    for (int k = 0; k < site.num_sources(); ++k)
      if (touched[j] && !touched[k] && site.sources[j] == site.sources[k]) return true;
  }
  return false;
}

void append_edges(int site, const std::vector<bool>& chosen, std::vector<Edge>& edges) {
  for (size_t j = 0; j < chosen.size(); ++j)
    if (chosen[j]) edges.push_back({site, static_cast<int>(j)});
}

void apply_to_site(Cell& cell, const DepthPlan& plan, int index, const SourceChoice& choice) {
  const Site& site = plan.sites[index];
  const int64_t n = site.num_sources();
  const std::vector<bool> chosen = choose(site, choice, cell.distinct);
  const std::vector<bool> touched = touched_sources(cell.intervention, chosen);
  const int64_t count = std::count(touched.begin(), touched.end(), true);
  const bool whole_site = acts_on_all_sources(cell.intervention);
  if (count == 0 || (whole_site && n == 1)) {
    ++cell.sites_absent;
    return;
  }
  // All sources: mask, only and zero would leave nothing, and the softmax does not see a common bias.
  if (count == n && !whole_site) {
    ++cell.sites_skipped;
    append_edges(index, chosen, cell.skipped_sources);
    return;
  }
  ++cell.sites_ablated;
  if (has_untouched_copy(site, touched)) ++cell.sites_duplicate;
  cell.site_interventions[index] = site_intervention(cell.intervention, cell.value, chosen);
  cell.first_site = std::min(cell.first_site, index);
  append_edges(index, chosen, cell.sources);
}

}  // namespace

bool SourceChoice::contains(const Site& site, int source) const {
  if (families.empty() && positions.empty()) return true;
  return std::find(families.begin(), families.end(), site.family(source)) != families.end() ||
         std::find(positions.begin(), positions.end(), source) != positions.end();
}

SiteIntervention site_intervention(Intervention intervention, double value, const std::vector<bool>& chosen) {
  SiteIntervention site;
  if (acts_on_all_sources(intervention)) {
    site.learned_logits = false;
    site.offset.assign(chosen.size(), 0.0f);
    if (intervention == Intervention::schedule) site.offset.back() = static_cast<float>(value);
    return site;
  }
  const std::vector<bool> touched = touched_sources(intervention, chosen);
  const bool scales = intervention == Intervention::zero;
  const float neutral = scales ? 1.0f : 0.0f;
  float changed = scales ? 0.0f : -std::numeric_limits<float>::infinity();
  if (intervention == Intervention::bias) changed = static_cast<float>(value);
  std::vector<float>& values = scales ? site.scale : site.offset;
  for (bool touch : touched) values.push_back(touch ? changed : neutral);
  return site;
}

void apply_to_sites(Cell& cell, const DepthPlan& plan, const std::vector<int>& sites,
                    const SourceChoice& choice) {
  cell.site_interventions.assign(plan.sites.size(), SiteIntervention{});
  cell.first_site = static_cast<int>(plan.sites.size());
  for (int site : sites) apply_to_site(cell, plan, site, choice);
}

}  // namespace depthroute
