#include "eval/cells/grid.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "configs/base/error.h"
#include "configs/schema.h"
#include "eval/cells/interventions.h"
#include "eval/cells/sites.h"
#include "eval/cells/unions.h"

namespace depthroute {
namespace {

Replaced replaced_of(Replace replace) {
  if (replace == Replace::both) return Replaced::both;
  return replace == Replace::values ? Replaced::values : Replaced::keys;
}

Replace default_replace(Intervention intervention) {
  return intervention == Intervention::permute ? Replace::values : Replace::both;
}

/// The action of an entry of `grids` or `cells`; options that the intervention does not take keep their
/// defaults.
template <typename Entry>
Action action_of(const Entry& entry, Intervention intervention) {
  Action action;
  action.intervention = intervention;
  if (takes_value(intervention)) action.value = entry.value.value_or(0.0);
  action.distinct = entry.distinct && !acts_on_all_sources(intervention);
  if (replaces_content(intervention))
    action.replaced = replaced_of(entry.replace.value_or(default_replace(intervention)));
  if (needs_calibration(intervention)) action.average = entry.average.value_or(Average::all);
  action.tokens.filter = entry.tokens;
  return action;
}

/// What a grid's options add to the names of its cells: "/distinct/values/position_0".
std::string suffix(const GridConfig& config, const Action& action) {
  std::string text;
  if (action.distinct) text += "/distinct";
  if (replaces_content(action.intervention) && config.replace &&
      *config.replace != default_replace(action.intervention))
    text += std::string("/") + to_string(*config.replace);
  if (action.average != Average::all) text += std::string("/") + to_string(action.average);
  if (!action.tokens.all()) text += "/" + action.tokens.text();
  return text;
}

Cell edge_cell(const GridConfig& config, const DepthPlan& plan, Intervention intervention, int index,
               int source) {
  const Site& site = plan.sites[index];
  const Action action = action_of(config, intervention);
  Cell cell;
  cell.name = fmt::format("{}/{}/{}{}", to_string(intervention), plan.site_name(index), source,
                          suffix(config, action));
  cell.family = to_string(site.family(source));
  cell.sublayer = to_string(site.sublayer);
  cell.band = to_string(plan.band(index));
  cell.site = index;
  cell.source = source;
  apply_to_sites(cell, action, plan, {index}, SourceChoice{{}, {source}});
  return cell;
}

void expand_edges(const GridConfig& config, const DepthPlan& plan, std::vector<Cell>& cells) {
  for (const Intervention intervention : config.interventions)
    if (acts_on_all_sources(intervention))
      throw ConfigError("grid of edges: '{}' acts on all sources of a site, not on an edge",
                        to_string(intervention));
  const LayerChoice layers = {config.bands, config.layers};
  std::vector<Sublayer> sublayers = config.sublayers;
  if (sublayers.empty()) {
    sublayers = {Sublayer::attn, Sublayer::mlp};
    if (plan.has_final_site() && layers.all()) sublayers.push_back(Sublayer::final);
  }
  for (const int index : choose_sites(plan, sublayers, layers, "grid of edges"))
    for (int source = 0; source < plan.sites[index].num_sources(); ++source)
      for (const Intervention intervention : config.interventions)
        cells.push_back(edge_cell(config, plan, intervention, index, source));
}

/// One cell of a grid. No `family` for interventions on whole sites. `layers`: a band or a layer; the final
/// site is in none.
Cell grid_cell(const GridConfig& config, const DepthPlan& plan, Intervention intervention,
               std::optional<Family> family, Sublayer sublayer, const LayerChoice& layers) {
  const Action action = action_of(config, intervention);
  Cell cell;
  cell.family = family ? to_string(*family) : "all";
  cell.sublayer = to_string(sublayer);
  cell.band = sublayer == Sublayer::final ? to_string(Band::none) : layers.text();
  cell.name = fmt::format("{}/{}/{}", to_string(intervention), cell.family, cell.sublayer);
  if (sublayer != Sublayer::final)
    cell.name += "/" + (layers.layers.empty() ? cell.band : fmt::format("layers.{}", layers.layers[0]));
  cell.name += suffix(config, action);
  SourceChoice choice;
  if (family) choice.families = {*family};
  const std::vector<Sublayer> sublayers = {sublayer};
  const std::vector<int> sites = choose_sites(plan, sublayers, layers, fmt::format("cell '{}'", cell.name));
  apply_to_sites(cell, action, plan, sites, choice);
  return cell;
}

/// The depths of a grid's cells: every band and every layer is one of its own.
std::vector<LayerChoice> columns_of(const GridConfig& config, Sublayer sublayer) {
  if (sublayer == Sublayer::final) return {LayerChoice{}};
  std::vector<LayerChoice> columns;
  for (const Band band : config.bands) columns.push_back({{band}, {}});
  for (const int64_t layer : config.layers) columns.push_back({{}, {layer}});
  return columns;
}

void expand_grid(const GridConfig& config, const DepthPlan& plan, std::vector<Cell>& cells) {
  if (config.edges == EdgeChoice::all) return expand_edges(config, plan, cells);
  std::vector<std::optional<Family>> rows(config.families.begin(), config.families.end());
  rows.push_back(std::nullopt);  // interventions on whole sites come once, not once per family
  for (const auto& family : rows) {
    for (const Sublayer sublayer : config.sublayers) {
      for (const LayerChoice& layers : columns_of(config, sublayer)) {
        for (const Intervention intervention : config.interventions) {
          if (acts_on_all_sources(intervention) == family.has_value()) continue;
          cells.push_back(grid_cell(config, plan, intervention, family, sublayer, layers));
        }
      }
    }
  }
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
  if (!config.source_positions.empty()) return fmt::format("{}", fmt::join(config.source_positions, ","));
  return config.source_families.empty() ? "all" : join_names(config.source_families);
}

Cell single_cell(const CellConfig& config, const DepthPlan& plan) {
  const LayerChoice layers = {config.bands, config.layers};
  if (config.sublayers.empty())
    throw ConfigError("cell '{}': sublayers is empty (attn, mlp, final)", config.name);
  const std::vector<int> sites =
      choose_sites(plan, config.sublayers, layers, fmt::format("cell '{}'", config.name));
  Action action = action_of(config, config.intervention);
  action.tokens.first = config.first_token.value_or(0);
  action.tokens.last = config.last_token.value_or(TokenRange::kEnd);
  Cell cell;
  cell.name = config.name;
  cell.family = source_text(config);
  cell.sublayer = join_names(config.sublayers);
  cell.band = layers.text();
  apply_to_sites(cell, action, plan, sites, sources_of(config, plan, sites));
  return cell;
}

const Cell& find_member(const std::string& name, const Cell& whole, const std::vector<Cell>& cells,
                        const std::set<std::string>& unions) {
  if (unions.contains(name))
    throw ConfigError("cell '{}': '{}' in its union is itself a union; name that one's members instead",
                      whole.name, name);
  std::vector<std::string> names;
  for (const Cell& cell : cells) {
    if (cell.name == name) return cell;
    names.push_back(cell.name);
  }
  const std::vector<std::string> close = nearest(name, names);
  throw ConfigError("cell '{}': there is no cell '{}' for its union{}", whole.name, name,
                    close.empty() ? "" : fmt::format("; did you mean '{}'?", close.front()));
}

/// Fills the unions, which may name cells that come after them.
void fill_unions(const std::map<size_t, const CellConfig*>& unions, const DepthPlan& plan,
                 std::vector<Cell>& cells) {
  std::set<std::string> names;
  for (const auto& [index, config] : unions) names.insert(config->name);
  for (const auto& [index, config] : unions) {
    std::vector<const Cell*> members;
    for (const std::string& name : config->union_of)
      members.push_back(&find_member(name, cells[index], cells, names));
    unite(cells[index], members, plan);
  }
}

void refuse_equal_names(const std::vector<Cell>& cells) {
  std::set<std::string> names;
  for (const Cell& cell : cells) {
    if (!names.insert(cell.name).second)
      throw ConfigError("cell '{}' appears twice; give one of them another name or remove it", cell.name);
  }
}

}  // namespace

std::vector<Cell> resolve_cells(const std::vector<GridConfig>& grids, const std::vector<CellConfig>& singles,
                                const DepthPlan& plan, const ResampleConfig& resample) {
  std::vector<Cell> cells;
  for (const GridConfig& grid : grids) expand_grid(grid, plan, cells);
  std::map<size_t, const CellConfig*> unions;
  for (const CellConfig& single : singles) {
    if (single.name.empty()) throw ConfigError("a cell without a name: every cell needs one");
    if (single.union_of.empty()) {
      cells.push_back(single_cell(single, plan));
    } else {
      unions.emplace(cells.size(), &single);
      cells.emplace_back().name = single.name;
    }
    cells.back().per_token = single.per_token;
  }
  refuse_equal_names(cells);
  fill_unions(unions, plan, cells);
  for (Cell& cell : cells) {
    if (!cell.uses_donors()) continue;
    cell.repeats = resample.donors;
    cell.donor_seed = resample.seed;
  }
  return cells;
}

}  // namespace depthroute
