#include "eval/cells.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <optional>
#include <set>
#include <utility>

#include "configs/base/check.h"
#include "configs/base/error.h"

namespace depthroute {
namespace {

constexpr Intervention kInterventions[] = {Intervention::mask,    Intervention::only,     Intervention::zero,
                                           Intervention::uniform, Intervention::schedule, Intervention::bias};
constexpr Family kFamilies[] = {Family::embedding, Family::older, Family::recent, Family::current};
constexpr Sublayer kSublayers[] = {Sublayer::attn, Sublayer::mlp, Sublayer::final};
constexpr Band kBands[] = {Band::early, Band::mid, Band::late};

template <typename Enum, size_t kSize>
Enum parse(const Enum (&values)[kSize], const std::string& text, const char* what, const std::string& cell) {
  std::string known;
  for (Enum value : values) {
    if (text == to_string(value)) return value;
    known += std::string(known.empty() ? "" : ", ") + to_string(value);
  }
  throw ConfigError("cell '{}': unknown {} '{}' (known: {})", cell, what, text, known);
}

template <typename Range, typename Format>
std::string join(const Range& items, const char* separator, Format format) {
  std::string text;
  for (const auto& item : items) {
    if (!text.empty()) text += separator;
    text += format(item);
  }
  return text;
}

bool acts_on_all_sources(Intervention intervention) {
  return intervention == Intervention::uniform || intervention == Intervention::schedule;
}

/// What is aimed at: families, or positions, or (neither given) every source.
struct SourceChoice {
  std::vector<Family> families;
  std::vector<int64_t> positions;

  bool all() const { return families.empty() && positions.empty(); }
  bool contains(const Site& site, int source) const {
    if (all()) return true;
    if (std::find(families.begin(), families.end(), site.family(source)) != families.end()) return true;
    return std::find(positions.begin(), positions.end(), source) != positions.end();
  }
};

std::vector<bool> choose(const Site& site, const SourceChoice& choice, bool distinct) {
  std::vector<bool> chosen(site.num_sources());
  for (int j = 0; j < site.num_sources(); ++j) chosen[j] = choice.contains(site, j);
  if (!distinct) return chosen;
  const std::vector<bool> named = chosen;
  for (int j = 0; j < site.num_sources(); ++j) {
    for (int k = 0; k < site.num_sources(); ++k) {
      if (named[k] && site.sources[j] == site.sources[k]) chosen[j] = true;
    }
  }
  return chosen;
}

/// `only` works on the sources that are not chosen; everything else on those that are.
std::vector<bool> touched_sources(Intervention intervention, const std::vector<bool>& chosen) {
  std::vector<bool> touched = chosen;
  if (intervention == Intervention::only) touched.flip();
  return touched;
}

bool has_untouched_copy(const Site& site, const std::vector<bool>& touched) {
  for (int j = 0; j < site.num_sources(); ++j) {
    for (int k = 0; k < site.num_sources(); ++k) {
      if (touched[j] && !touched[k] && site.sources[j] == site.sources[k]) return true;
    }
  }
  return false;
}

void add_site(Cell& cell, const DepthPlan& plan, int index, const SourceChoice& choice) {
  const Site& site = plan.sites[index];
  const int n = site.num_sources();
  const std::vector<bool> chosen = choose(site, choice, cell.distinct);
  const std::vector<bool> touched = touched_sources(cell.intervention, chosen);
  const int64_t count = std::count(touched.begin(), touched.end(), true);
  const bool whole_site = acts_on_all_sources(cell.intervention);
  if (count == 0 || (whole_site && n == 1)) {
    ++cell.sites_absent;
    return;
  }
  if (count == n && !whole_site) {  // mask, only, zero: nothing left; bias: the softmax does not see it
    ++cell.sites_skipped;
    for (int j = 0; j < n; ++j)
      if (chosen[j]) cell.skipped_sources.push_back({index, j});
    return;
  }
  ++cell.sites_ablated;
  if (has_untouched_copy(site, touched)) ++cell.sites_duplicate;
  cell.controls[index] = site_control(cell.intervention, cell.value, chosen);
  cell.first_site = std::min(cell.first_site, index);
  for (int j = 0; j < n; ++j)
    if (chosen[j]) cell.sources.push_back({index, j});
}

void build(Cell& cell, const DepthPlan& plan, const std::vector<int>& sites, const SourceChoice& choice) {
  cell.controls.assign(plan.sites.size(), SiteControl{});
  cell.first_site = static_cast<int>(plan.sites.size());
  for (int site : sites) add_site(cell, plan, site, choice);
}

int final_site(const DepthPlan& plan, const std::string& cell) {
  if (!plan.has_final_site())
    throw ConfigError("cell '{}': this model has no final site; remove 'final' from its sublayers", cell);
  return plan.num_sublayers();
}

/// Sites of one sublayer kind whose layer `accepts`; the final site belongs to no layer and is taken by name
/// only.
template <typename Accepts>
void append_sites(const DepthPlan& plan, Sublayer sublayer, const std::string& cell, Accepts accepts,
                  std::vector<int>& sites) {
  if (sublayer == Sublayer::final) {
    sites.push_back(final_site(plan, cell));
    return;
  }
  for (int site = 0; site < plan.num_sublayers(); ++site) {
    if (plan.sites[site].sublayer == sublayer && accepts(site)) sites.push_back(site);
  }
}

void expand_edges(const CellConfig& config, const DepthPlan& plan, std::vector<Cell>& cells) {
  std::vector<Intervention> interventions;
  for (const std::string& name : config.interventions)
    interventions.push_back(parse(kInterventions, name, "intervention", "grid of edges"));
  if (interventions.empty()) interventions.push_back(Intervention::mask);
  for (int index = 0; index < static_cast<int>(plan.sites.size()); ++index) {
    const Site& site = plan.sites[index];
    for (int source = 0; source < site.num_sources(); ++source) {
      for (Intervention intervention : interventions) {
        if (acts_on_all_sources(intervention))
          throw ConfigError("grid of edges: '{}' acts on all sources of a site, not on an edge",
                            to_string(intervention));
        Cell cell;
        cell.name = fmt::format("{}/{}/{}", to_string(intervention), plan.site_name(index), source);
        cell.family = to_string(site.family(source));
        cell.sublayer = to_string(site.sublayer);
        cell.band = to_string(plan.band(index));
        cell.intervention = intervention;
        cell.value = config.value;
        cell.distinct = config.distinct;
        if (cell.distinct) cell.name += "/distinct";
        build(cell, plan, {index}, SourceChoice{{}, {source}});
        cells.push_back(std::move(cell));
      }
    }
  }
}

/// One cell of a grid. `family` is none for interventions on whole sites, `band` is none for the final site.
Cell grid_cell(const CellConfig& config, const DepthPlan& plan, Intervention intervention,
               std::optional<Family> family, Sublayer sublayer, Band band) {
  Cell cell;
  cell.family = family ? to_string(*family) : "all";
  cell.sublayer = to_string(sublayer);
  cell.band = to_string(band);
  cell.intervention = intervention;
  cell.value = config.value;
  cell.distinct = config.distinct && family;
  cell.name = fmt::format("{}/{}/{}", to_string(intervention), cell.family, cell.sublayer);
  if (sublayer != Sublayer::final) cell.name += "/" + cell.band;
  if (cell.distinct) cell.name += "/distinct";
  SourceChoice choice;
  if (family) choice.families = {*family};
  std::vector<int> sites;
  append_sites(
      plan, sublayer, cell.name, [&](int site) { return plan.band(site) == band; }, sites);
  build(cell, plan, sites, choice);
  return cell;
}

void expand_grid(const CellConfig& config, const DepthPlan& plan, std::vector<Cell>& cells) {
  if (config.edges) return expand_edges(config, plan, cells);
  std::vector<Family> families;
  std::vector<Sublayer> sublayers;
  std::vector<Band> bands;
  std::vector<Intervention> interventions;
  for (const auto& name : config.families) families.push_back(parse(kFamilies, name, "family", "grid"));
  for (const auto& name : config.grid_sublayers)
    sublayers.push_back(parse(kSublayers, name, "sublayer", "grid"));
  for (const auto& name : config.bands) bands.push_back(parse(kBands, name, "band", "grid"));
  for (const auto& name : config.interventions)
    interventions.push_back(parse(kInterventions, name, "intervention", "grid"));
  if (interventions.empty()) interventions.push_back(Intervention::mask);

  std::vector<std::optional<Family>> rows(families.begin(), families.end());
  rows.push_back(std::nullopt);  // interventions on whole sites come once, not once per family
  for (const auto& family : rows) {
    for (Sublayer sublayer : sublayers) {
      const std::vector<Band> columns = sublayer == Sublayer::final ? std::vector<Band>{Band::none} : bands;
      for (Band band : columns) {
        for (Intervention intervention : interventions) {
          if (acts_on_all_sources(intervention) == family.has_value()) continue;
          cells.push_back(grid_cell(config, plan, intervention, family, sublayer, band));
        }
      }
    }
  }
}

SourceChoice explicit_sources(const CellConfig& config, const DepthPlan& plan,
                              const std::vector<int>& sites) {
  SourceChoice choice;
  for (const auto& name : config.source_families)
    choice.families.push_back(parse(kFamilies, name, "family", config.name));
  choice.positions = config.source_positions;
  int most = 0;
  for (int site : sites) most = std::max(most, plan.sites[site].num_sources());
  for (int64_t position : choice.positions) {
    if (position < 0 || position >= most)
      throw ConfigError("cell '{}': source {} is out of range (its sites have at most {} sources, 0 to {})",
                        config.name, position, most, most - 1);
  }
  return choice;
}

std::vector<int> explicit_sites(const CellConfig& config, const DepthPlan& plan) {
  std::vector<Band> bands;
  for (const auto& name : config.cell_bands) bands.push_back(parse(kBands, name, "band", config.name));
  for (int64_t layer : config.layers) {
    if (layer < 0 || layer >= plan.num_layers)
      throw ConfigError("cell '{}': layer {} is out of range (the model has layers 0 to {})", config.name,
                        layer, plan.num_layers - 1);
  }
  if (config.sublayers.empty())
    throw ConfigError("cell '{}': sublayers is empty (attn, mlp, final)", config.name);
  const auto accepts = [&](int site) {
    if (bands.empty() && config.layers.empty()) return true;
    return std::find(bands.begin(), bands.end(), plan.band(site)) != bands.end() ||
           std::find(config.layers.begin(), config.layers.end(), plan.sites[site].layer) !=
               config.layers.end();
  };
  std::vector<int> sites;
  for (const auto& name : config.sublayers)
    append_sites(plan, parse(kSublayers, name, "sublayer", config.name), config.name, accepts, sites);
  std::sort(sites.begin(), sites.end());
  sites.erase(std::unique(sites.begin(), sites.end()), sites.end());
  return sites;
}

std::string place_text(const CellConfig& config) {
  const auto same = [](const std::string& text) { return text; };
  if (!config.layers.empty())
    return "layers " + join(config.layers, ",", [](int64_t layer) { return std::to_string(layer); });
  return config.cell_bands.empty() ? "all" : join(config.cell_bands, "+", same);
}

Cell explicit_cell(const CellConfig& config, const DepthPlan& plan) {
  if (config.name.empty()) throw ConfigError("cell at line {}: it needs a name", config.line);
  const auto same = [](const std::string& text) { return text; };
  Cell cell;
  cell.name = config.name;
  cell.intervention = parse(kInterventions, config.intervention, "intervention", config.name);
  cell.value = config.value;
  cell.distinct = config.distinct;
  const bool sources_given = !config.source_families.empty() || !config.source_positions.empty();
  if (acts_on_all_sources(cell.intervention) && sources_given)
    throw ConfigError("cell '{}': '{}' sets all weights of a site; remove its sources", config.name,
                      config.intervention);
  if (!acts_on_all_sources(cell.intervention) && !sources_given)
    throw ConfigError("cell '{}': '{}' needs sources (families or positions)", config.name,
                      config.intervention);
  const std::vector<int> sites = explicit_sites(config, plan);
  const SourceChoice choice = explicit_sources(config, plan, sites);
  cell.family = join(config.source_families, "+", same);
  if (!config.source_positions.empty())
    cell.family =
        join(config.source_positions, ",", [](int64_t position) { return std::to_string(position); });
  if (cell.family.empty()) cell.family = "all";
  cell.sublayer = join(config.sublayers, "+", same);
  cell.band = place_text(config);
  build(cell, plan, sites, choice);
  return cell;
}

}  // namespace

const char* to_string(Intervention intervention) {
  switch (intervention) {
    case Intervention::mask:
      return "mask";
    case Intervention::only:
      return "only";
    case Intervention::zero:
      return "zero";
    case Intervention::uniform:
      return "uniform";
    case Intervention::schedule:
      return "schedule";
    case Intervention::bias:
      return "bias";
  }
  return "?";
}

SiteControl site_control(Intervention intervention, double value, const std::vector<bool>& chosen) {
  const size_t n = chosen.size();
  constexpr float kDropped = -std::numeric_limits<float>::infinity();
  SiteControl control;
  switch (intervention) {
    case Intervention::mask:
    case Intervention::only:
    case Intervention::bias: {
      const std::vector<bool> touched = touched_sources(intervention, chosen);
      const float offset = intervention == Intervention::bias ? static_cast<float>(value) : kDropped;
      control.offset.assign(n, 0.0f);
      for (size_t j = 0; j < n; ++j)
        if (touched[j]) control.offset[j] = offset;
      break;
    }
    case Intervention::zero:
      control.scale.assign(n, 1.0f);
      for (size_t j = 0; j < n; ++j)
        if (chosen[j]) control.scale[j] = 0.0f;
      break;
    case Intervention::uniform:
    case Intervention::schedule:
      control.learned_logits = false;
      control.offset.assign(n, 0.0f);
      if (intervention == Intervention::schedule) control.offset.back() = static_cast<float>(value);
      break;
  }
  return control;
}

std::vector<Cell> resolve_cells(const std::vector<CellConfig>& configs, const DepthPlan& plan) {
  std::vector<Cell> cells;
  for (const CellConfig& config : configs) {
    if (config.is_grid) {
      expand_grid(config, plan, cells);
    } else {
      cells.push_back(explicit_cell(config, plan));
    }
  }
  std::set<std::string> names;
  for (const Cell& cell : cells) {
    if (!names.insert(cell.name).second)
      throw ConfigError("cell '{}' appears twice; give one of them another name or remove it", cell.name);
  }
  return cells;
}

}  // namespace depthroute
