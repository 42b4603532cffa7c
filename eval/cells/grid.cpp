#include "eval/cells/grid.h"

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "configs/base/error.h"
#include "eval/cells/interventions.h"

namespace depthroute {
namespace {

template <typename Range, typename Format>
std::string join(const Range& items, const char* separator, Format format) {
  std::string text;
  for (const auto& item : items) {
    if (!text.empty()) text += separator;
    text += format(item);
  }
  return text;
}

template <Term Enum>
std::string join_names(const std::vector<Enum>& values) {
  return join(values, "+", [](Enum value) { return to_string(value); });
}

/// The entry's value; 0 for the interventions of a grid that take none.
template <typename Entry>
double value_of(const Entry& entry, Intervention intervention) {
  return takes_value(intervention) ? entry.value.value_or(0.0) : 0.0;
}

int final_site(const DepthPlan& plan, const std::string& cell) {
  if (!plan.has_final_site())
    throw ConfigError("cell '{}': this model has no final site; remove 'final' from its sublayers", cell);
  return plan.num_sublayers();
}

/// Appends the sites of one kind of sublayer that `accepts`. The final site is in no layer or band: naming
/// its sublayer is enough.
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

/// The sites of `edges: all`: those of the named sublayers, or all.
std::vector<int> edge_sites(const GridConfig& config, const DepthPlan& plan) {
  const std::vector<Sublayer>& wanted = config.sublayers;
  const auto names = [&](Sublayer sublayer) {
    return std::find(wanted.begin(), wanted.end(), sublayer) != wanted.end();
  };
  if (names(Sublayer::final)) (void)final_site(plan, "grid of edges");
  std::vector<int> sites;
  for (int site = 0; site < static_cast<int>(plan.sites.size()); ++site)
    if (wanted.empty() || names(plan.sites[site].sublayer)) sites.push_back(site);
  return sites;
}

Cell edge_cell(const GridConfig& config, const DepthPlan& plan, Intervention intervention, int index,
               int source) {
  const Site& site = plan.sites[index];
  Cell cell;
  cell.name = fmt::format("{}/{}/{}", to_string(intervention), plan.site_name(index), source);
  cell.family = to_string(site.family(source));
  cell.sublayer = to_string(site.sublayer);
  cell.band = to_string(plan.band(index));
  cell.intervention = intervention;
  cell.value = value_of(config, intervention);
  cell.distinct = config.distinct;
  if (cell.distinct) cell.name += "/distinct";
  apply_to_sites(cell, plan, {index}, SourceChoice{{}, {source}});
  return cell;
}

void expand_edges(const GridConfig& config, const DepthPlan& plan, std::vector<Cell>& cells) {
  for (const Intervention intervention : config.interventions)
    if (acts_on_all_sources(intervention))
      throw ConfigError("grid of edges: '{}' acts on all sources of a site, not on an edge",
                        to_string(intervention));
  for (const int index : edge_sites(config, plan))
    for (int source = 0; source < plan.sites[index].num_sources(); ++source)
      for (const Intervention intervention : config.interventions)
        cells.push_back(edge_cell(config, plan, intervention, index, source));
}

/// One cell of a grid. No `family` for interventions on whole sites; Band::none for the final site.
Cell grid_cell(const GridConfig& config, const DepthPlan& plan, Intervention intervention,
               std::optional<Family> family, Sublayer sublayer, Band band) {
  Cell cell;
  cell.family = family ? to_string(*family) : "all";
  cell.sublayer = to_string(sublayer);
  cell.band = to_string(band);
  cell.intervention = intervention;
  cell.value = value_of(config, intervention);
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

void expand_grid(const GridConfig& config, const DepthPlan& plan, std::vector<Cell>& cells) {
  if (config.edges == EdgeChoice::all) return expand_edges(config, plan, cells);
  std::vector<std::optional<Family>> rows(config.families.begin(), config.families.end());
  rows.push_back(std::nullopt);  // interventions on whole sites come once, not once per family
  for (const auto& family : rows) {
    for (const Sublayer sublayer : config.sublayers) {
      const std::vector<Band> columns =
          sublayer == Sublayer::final ? std::vector<Band>{Band::none} : config.bands;
      for (const Band band : columns) {
        for (const Intervention intervention : config.interventions) {
          if (acts_on_all_sources(intervention) == family.has_value()) continue;
          cells.push_back(grid_cell(config, plan, intervention, family, sublayer, band));
        }
      }
    }
  }
}

/// The sites of a single cell, in order.
std::vector<int> sites_of(const CellConfig& config, const DepthPlan& plan) {
  for (const int64_t layer : config.layers) {
    if (layer < 0 || layer >= plan.num_layers)
      throw ConfigError("cell '{}': layer {} is out of range (the model has layers 0 to {})", config.name,
                        layer, plan.num_layers - 1);
  }
  if (config.sublayers.empty())
    throw ConfigError("cell '{}': sublayers is empty (attn, mlp, final)", config.name);
  const std::vector<Band>& bands = config.bands;
  const auto accepts = [&](int site) {
    if (bands.empty() && config.layers.empty()) return true;
    return std::find(bands.begin(), bands.end(), plan.band(site)) != bands.end() ||
           std::find(config.layers.begin(), config.layers.end(), plan.sites[site].layer) !=
               config.layers.end();
  };
  std::vector<int> sites;
  for (const Sublayer sublayer : config.sublayers) append_sites(plan, sublayer, config.name, accepts, sites);
  std::sort(sites.begin(), sites.end());
  sites.erase(std::unique(sites.begin(), sites.end()), sites.end());
  return sites;
}

/// The sources of a single cell at `sites`.
SourceChoice sources_of(const CellConfig& config, const DepthPlan& plan, const std::vector<int>& sites) {
  const SourceChoice choice = {config.source_families, config.source_positions};
  const bool given = !choice.families.empty() || !choice.positions.empty();
  if (acts_on_all_sources(config.intervention) && given)
    throw ConfigError("cell '{}': '{}' sets all weights of a site; remove its sources", config.name,
                      to_string(config.intervention));
  if (!acts_on_all_sources(config.intervention) && !given)
    throw ConfigError("cell '{}': '{}' needs sources (families or positions)", config.name,
                      to_string(config.intervention));
  int most = 0;
  for (const int site : sites) most = std::max(most, plan.sites[site].num_sources());
  for (const int64_t position : choice.positions) {
    if (position < 0 || position >= most)
      throw ConfigError("cell '{}': source {} is out of range (its sites have at most {} sources, 0 to {})",
                        config.name, position, most, most - 1);
  }
  return choice;
}

/// "0,2" for positions, "older+recent" for families, "all" if the cell has no sources.
std::string source_text(const CellConfig& config) {
  if (!config.source_positions.empty())
    return join(config.source_positions, ",", [](int64_t position) { return std::to_string(position); });
  return config.source_families.empty() ? "all" : join_names(config.source_families);
}

/// "early+mid", "layers 3,5", both joined with '+', or "all".
std::string depth_text(const CellConfig& config) {
  std::string text = join_names(config.bands);
  if (!config.layers.empty()) {
    text += std::string(text.empty() ? "" : "+") + "layers ";
    text += join(config.layers, ",", [](int64_t layer) { return std::to_string(layer); });
  }
  return text.empty() ? "all" : text;
}

Cell single_cell(const CellConfig& config, const DepthPlan& plan) {
  if (config.name.empty()) throw ConfigError("a cell without a name: every cell needs one");
  Cell cell;
  cell.name = config.name;
  cell.family = source_text(config);
  cell.sublayer = join_names(config.sublayers);
  cell.band = depth_text(config);
  cell.intervention = config.intervention;
  cell.value = value_of(config, cell.intervention);
  cell.distinct = config.distinct;
  const std::vector<int> sites = sites_of(config, plan);
  apply_to_sites(cell, plan, sites, sources_of(config, plan, sites));
  return cell;
}

}  // namespace

std::vector<Cell> resolve_cells(const std::vector<GridConfig>& grids, const std::vector<CellConfig>& singles,
                                const DepthPlan& plan) {
  std::vector<Cell> cells;
  for (const GridConfig& grid : grids) expand_grid(grid, plan, cells);
  for (const CellConfig& single : singles) cells.push_back(single_cell(single, plan));
  std::set<std::string> names;
  for (const Cell& cell : cells) {
    if (!names.insert(cell.name).second)
      throw ConfigError("cell '{}' appears twice; give one of them another name or remove it", cell.name);
  }
  return cells;
}

}  // namespace depthroute
