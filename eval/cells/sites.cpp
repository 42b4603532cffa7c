#include "eval/cells/sites.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "configs/base/error.h"

namespace depthroute {
namespace {

template <typename List, typename Value>
bool holds(const List& list, Value value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

template <Term Enum>
std::string joined(std::span<const Enum> values) {
  std::vector<std::string> names;
  for (const Enum value : values) names.emplace_back(to_string(value));
  return fmt::format("{}", fmt::join(names, "+"));
}

}  // namespace

bool LayerChoice::contains(const DepthPlan& plan, int site) const {
  return all() || holds(bands, plan.band(site)) || holds(layers, plan.sites[site].layer);
}

std::string LayerChoice::text() const {
  if (all()) return "all";
  std::string text = joined(std::span<const Band>(bands));
  if (layers.empty()) return text;
  return fmt::format("{}{}layers {}", text, text.empty() ? "" : "+", fmt::join(layers, ","));
}

void LayerChoice::check(const DepthPlan& plan, const std::string& where) const {
  for (const int64_t layer : layers) {
    if (layer < 0 || layer >= plan.num_layers)
      throw ConfigError("{}: layer {} is out of range (the model has layers 0 to {})", where, layer,
                        plan.num_layers - 1);
  }
}

std::vector<int> choose_sites(const DepthPlan& plan, std::span<const Sublayer> sublayers,
                              const LayerChoice& layers, const std::string& where) {
  layers.check(plan, where);
  if (holds(sublayers, Sublayer::final) && !plan.has_final_site())
    throw ConfigError("{}: this model has no final site; remove 'final' from its sublayers", where);
  std::vector<int> sites;
  for (int site = 0; site < static_cast<int>(plan.sites.size()); ++site) {
    const Sublayer sublayer = plan.sites[site].sublayer;
    if (holds(sublayers, sublayer) && (sublayer == Sublayer::final || layers.contains(plan, site)))
      sites.push_back(site);
  }
  return sites;
}

std::string join_names(std::span<const Sublayer> sublayers) { return joined(sublayers); }
std::string join_names(std::span<const Family> families) { return joined(families); }

}  // namespace depthroute
