#include "train/model/depth_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "configs/base/check.h"

namespace depthroute {

namespace {

/// Which states site `s` of a variant reads (train/model/SPEC.md §1). Finished blocks are the states S_{kS}.
std::vector<int> sources_of(Variant variant, int s, int block) {
  if (variant == Variant::additive || (variant == Variant::kimi && s == 0)) return {s};
  std::vector<int> sources = {0};
  // `cumulative` snapshots a block before the boundary's own read, so that S_s appears twice there.
  const int last_snapshot = variant == Variant::cumulative ? s : s - 1;
  for (int state = block; state <= last_snapshot; state += block) sources.push_back(state);
  sources.push_back(s);
  return sources;
}

bool restarts(Variant variant, int s, int block) {
  if (variant == Variant::additive || variant == Variant::cumulative) return false;
  return s == 0 ? variant == Variant::kimi : s % block == 0;
}

std::vector<int> find_duplicates(const std::vector<int>& sources) {
  std::vector<int> duplicate_of(sources.size(), -1);
  for (size_t j = 0; j < sources.size(); ++j) {
    const auto first = std::find(sources.begin(), sources.begin() + j, sources[j]);
    if (first != sources.begin() + j) duplicate_of[j] = static_cast<int>(first - sources.begin());
  }
  return duplicate_of;
}

void plan_gradients(DepthPlan& plan) {
  const int last_state = plan.num_sublayers();
  plan.kept.assign(last_state + 1, false);
  for (const Site& site : plan.sites)
    for (int j = 0; j + 1 < site.num_sources(); ++j) plan.kept[site.sources[j]] = true;
  plan.gradient_slot.assign(last_state + 1, 0);
  plan.num_gradient_slots = 1;
  for (int s = last_state - 1; s >= 0; --s) {
    const bool shares = !plan.kept[s] && !plan.sites[s].restart;
    plan.gradient_slot[s] = shares ? plan.gradient_slot[s + 1] : plan.num_gradient_slots++;
  }
}

}  // namespace

Family Site::family(int source) const {
  DR_CHECK(source >= 0 && source < num_sources());
  if (source == num_sources() - 1) return Family::current;
  if (source == 0) return Family::embedding;
  if (source == num_sources() - 2) return Family::recent;
  return Family::older;
}

int DepthPlan::max_sources() const {
  int most = 1;
  for (const Site& site : sites) most = std::max(most, site.num_sources());
  return most;
}

Band DepthPlan::band(int site) const {
  if (sites[site].sublayer == Sublayer::final) return Band::none;
  return static_cast<Band>(3 * sites[site].layer / num_layers);
}

std::string DepthPlan::site_name(int site) const {
  if (sites[site].sublayer == Sublayer::final) return "final";
  return fmt::format("layers.{}.{}", sites[site].layer, to_string(sites[site].sublayer));
}

std::vector<SiteGroup> group_sites(std::span<const Site> sites, bool alone) {
  const auto is_alone = [&](int site) {
    return sites[site].num_sources() == 1 || (alone && site > 0 && sites[site].duplicate_of.back() >= 0);
  };
  const auto shared = [](const Site& site) {
    return std::span<const int>(site.sources).first(site.sources.size() - 1);
  };
  const int count = static_cast<int>(sites.size());
  std::vector<SiteGroup> groups;
  for (int first = 0; first < count;) {
    int end = first + 1;
    while (end < count && !is_alone(first) && !is_alone(end) &&
           std::ranges::equal(shared(sites[first]), shared(sites[end])))
      ++end;
    const int parts = div_ceil(end - first, kMaxGroupSites);
    for (int part = 0; part < parts; ++part) {
      const int begin = first + (end - first) * part / parts;
      groups.push_back({begin, first + (end - first) * (part + 1) / parts - begin});
    }
    first = end;
  }
  return groups;
}

DepthPlan make_depth_plan(const ModelConfig& config) {
  DR_CHECK_MSG(config.problem().empty(), "make_depth_plan: impossible configuration");
  const Variant variant = config.residual.variant;
  DepthPlan plan;
  plan.num_layers = narrow<int>(config.num_layers);
  plan.sublayers_per_block = narrow<int>(std::min(config.sublayers_per_block(), config.num_sublayers()));
  for (int s = 0; s < plan.num_sublayers(); ++s) {
    Site site;
    site.layer = s / 2;
    site.sublayer = s % 2 == 0 ? Sublayer::attn : Sublayer::mlp;
    site.sources = sources_of(variant, s, plan.sublayers_per_block);
    site.routed = variant != Variant::additive;
    site.restart = restarts(variant, s, plan.sublayers_per_block);
    plan.sites.push_back(std::move(site));
  }
  if (variant == Variant::reset || variant == Variant::kimi) {
    Site site;
    site.layer = plan.num_layers;
    site.sublayer = Sublayer::final;
    site.sources = sources_of(variant, plan.num_sublayers(), plan.sublayers_per_block);
    plan.sites.push_back(std::move(site));
  }
  for (Site& site : plan.sites) site.duplicate_of = find_duplicates(site.sources);
  plan_gradients(plan);
  return plan;
}

ScheduleWeights schedule_weights(int num_sources, double bias) {
  if (num_sources == 1) return {1.0, 0.0};
  // e^b / (e^b + n - 1) and 1 / (e^b + n - 1), written so that an infinite e^b or e^-b gives the limit, too.
  const double others = static_cast<double>(num_sources - 1);
  return {1.0 / (1.0 + others * std::exp(-bias)), 1.0 / (others + std::exp(bias))};
}

}  // namespace depthroute
