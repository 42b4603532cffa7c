#include "eval/cells/grid.h"

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "configs/base/error.h"
#include "eval/cells/interventions.h"

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

/// Only these two have a value; for the others it is 0 whatever the grid says.
double value_of(const CellConfig& config, Intervention intervention) {
  return intervention == Intervention::bias || intervention == Intervention::schedule ? config.value : 0.0;
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
        cell.value = value_of(config, cell.intervention);
        cell.distinct = config.distinct;
        if (cell.distinct) cell.name += "/distinct";
        apply_to_sites(cell, plan, {index}, SourceChoice{{}, {source}});
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
  cell.value = value_of(config, cell.intervention);
  cell.distinct = config.distinct && family;
  cell.name = fmt::format("{}/{}/{}", to_string(intervention), cell.family, cell.sublayer);
  if (sublayer != Sublayer::final) cell.name += "/" + cell.band;
  if (cell.distinct) cell.name += "/distinct";
  SourceChoice choice;
  if (family) choice.families = {*family};
  std::vector<int> sites;
  append_sites(
      plan, sublayer, cell.name, [&](int site) { return plan.band(site) == band; }, sites);
  apply_to_sites(cell, plan, sites, choice);
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
  std::string text = join(config.cell_bands, "+", same);
  if (!config.layers.empty()) {
    text += std::string(text.empty() ? "" : "+") + "layers ";
    text += join(config.layers, ",", [](int64_t layer) { return std::to_string(layer); });
  }
  return text.empty() ? "all" : text;
}

Cell explicit_cell(const CellConfig& config, const DepthPlan& plan) {
  if (config.name.empty()) throw ConfigError("cell at line {}: it needs a name", config.line);
  const auto same = [](const std::string& text) { return text; };
  Cell cell;
  cell.name = config.name;
  cell.intervention = parse(kInterventions, config.intervention, "intervention", config.name);
  cell.value = value_of(config, cell.intervention);
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
  apply_to_sites(cell, plan, sites, choice);
  return cell;
}

}  // namespace

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
