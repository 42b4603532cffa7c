// The groups of the results file that are about cells, one function each.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "eval/analysis/coefficients.h"
#include "eval/results/put.h"
#include "eval/results/results_file.h"

namespace depthroute {
namespace {

const std::vector<std::string> kCellAxis = {"/cell/cell"};
constexpr const char* kCoordinates = "family sublayer band intervention site source";

/// Values of one column of all cells, NaN where a cell did not run or lacks it.
std::vector<double> by_cell(const Results& results, CellColumn which, size_t size) {
  std::vector<double> values;
  values.reserve(results.cells.size() * size);
  for (const int comparison : results.comparison_of_cell) {
    const std::vector<double>* const own =
        comparison < 0 ? nullptr : &results.evaluation.outcomes[comparison][which];
    if (own && own->size() == size) {
      values.insert(values.end(), own->begin(), own->end());
    } else {
      values.insert(values.end(), size, kMissing);
    }
  }
  return values;
}

/// The name of the first cell that was measured with this one, or "".
std::vector<std::string> same_as(const Results& results) {
  std::map<int, std::string> first;
  std::vector<std::string> names;
  for (size_t i = 0; i < results.cells.size(); ++i) {
    const int comparison = results.comparison_of_cell[i];
    if (comparison < 0) {
      names.emplace_back();
      continue;
    }
    const auto [at, added] = first.try_emplace(comparison, results.cells[i].name);
    names.push_back(added ? "" : at->second);
  }
  return names;
}

}  // namespace

void ResultsFile::write_cells(const Results& results) {
  const std::vector<Cell>& cells = results.cells;
  const auto text = [&](const std::string& name, const std::string& long_name, auto get) {
    put(file_, "/cell/" + name, column<std::string>(cells, get), kCellAxis, {"", long_name});
  };
  const auto count = [&](const std::string& name, const std::string& long_name, auto get) {
    put(file_, "/cell/" + name, column<int64_t>(cells, get), kCellAxis, {"1", long_name});
  };
  const auto flag = [&](const std::string& name, const std::string& long_name, const std::string& meanings,
                        const std::vector<uint8_t>& values) {
    put(file_, "/cell/" + name, values, kCellAxis, {"1", long_name});
    file_.attribute("/cell/" + name, "flag_values", std::span<const uint8_t>(std::vector<uint8_t>{0, 1}));
    file_.attribute("/cell/" + name, "flag_meanings", meanings);
  };
  file_.group("/cell");
  file_.scale("/cell/cell", column<std::string>(cells, [](const Cell& cell) { return cell.name; }),
              {"", "name of the cell"});
  text("family", "source family or positions", [](const Cell& cell) { return cell.family; });
  text("sublayer", "kind of sublayer", [](const Cell& cell) { return cell.sublayer; });
  text("band", "depth band or layers", [](const Cell& cell) { return cell.band; });
  text("intervention", "what is done", [](const Cell& cell) { return cell.intervention_name(); });
  text("site", "site of a cell that is one edge; empty otherwise",
       [&](const Cell& cell) { return cell.site < 0 ? std::string() : plan_.site_name(cell.site); });
  count("source", "source of a cell that is one edge; -1 otherwise",
        [](const Cell& cell) { return cell.source; });
  text("replace", "what is replaced: values, keys or both", [](const Cell& cell) { return cell.replace; });
  text("average", "what means are taken over", [](const Cell& cell) { return cell.average; });
  text("tokens", "tokens whose reads are changed", [](const Cell& cell) { return cell.tokens; });
  text("union", "cells it is the union of", [](const Cell& cell) { return cell.union_of; });
  text("status", "measured, or not_run where no site is ablated",
       [](const Cell& cell) { return std::string(cell.runs() ? "measured" : "not_run"); });
  put(file_, "/cell/hash",
      column<std::string>(results.comparison_of_cell,
                          [&](int comparison) {
                            return comparison < 0 ? std::string() : results.comparison_hashes[comparison];
                          }),
      kCellAxis, {"", "hash of what is done; equal for equal interventions"});
  put(file_, "/cell/same_as", same_as(results), kCellAxis,
      {"", "earlier cell with the same intervention, measured once for both; empty otherwise"});
  flag("status_code", "status as a number", "not_run measured",
       column<uint8_t>(cells, [](const Cell& cell) { return cell.runs(); }));
  flag("distinct", "every copy of a duplicated state is touched", "no yes",
       column<uint8_t>(cells, [](const Cell& cell) { return cell.distinct; }));
  flag("out_of_distribution", "the ablated nll exceeds the entropy of the tokens' own distribution", "no yes",
       column<uint8_t>(results.effects, [](const Effect& effect) { return effect.out_of_distribution; }));
  put(file_, "/cell/value", column<double>(cells, [](const Cell& cell) { return cell.value; }), kCellAxis,
      {"1", "offset of bias, b of schedule"});
  count("sites_ablated", "sites the intervention changes",
        [](const Cell& cell) { return cell.sites_ablated; });
  count("sites_skipped", "sites left as they are: nothing would be left",
        [](const Cell& cell) { return cell.sites_skipped; });
  count("sites_absent", "sites left as they are: no such source",
        [](const Cell& cell) { return cell.sites_absent; });
  count("sites_duplicate", "ablated sites where a touched source has an untouched copy",
        [](const Cell& cell) { return cell.sites_duplicate; });
  count("first_site", "first ablated site; the number of sites if none",
        [](const Cell& cell) { return cell.first_site; });
}

void ResultsFile::write_cell_effects(const Results& results) {
  const std::vector<Effect>& effects = results.effects;
  const auto number = [&](const std::string& name, const VariableInfo& info, double Effect::*which) {
    put(file_, "/cell/" + name, column<double>(effects, [&](const Effect& effect) { return effect.*which; }),
        kCellAxis, info);
    file_.attribute("/cell/" + name, "coordinates", std::string(kCoordinates));
  };
  for (size_t i = 0; i < std::size(kCellColumns); ++i) {
    const Column& info = kCellColumns[i];
    if (!info.rate) continue;
    const std::string path = std::string("/cell/") + info.rate;
    put_estimates(file_, path, rates(effects, i), kCellAxis, {info.rate_units, info.rate_long_name}, level_);
    for (const char* end : {"", "_low", "_high", "_se"})
      file_.attribute(path + end, "coordinates", std::string(kCoordinates));
  }
  number("mass",
         {"1", "mean over ablated sites of the clean weight on the cell's sources (only: on those kept)"},
         &Effect::mass);
  number("eps_sensitivity",
         {"nats/token", "delta_nll of mask minus that of zero on the same sources: what rms_norm_eps does"},
         &Effect::eps_sensitivity);
  number("delta_nll_donor_std", {"nats/token", "standard deviation of delta_nll over donors"},
         &Effect::donor_std);
  number("largest_change", {"nats", "largest |delta nll| or divergence of any token"},
         &Effect::largest_change);
  put(file_, "/cell/cost", results.cost_of_cell, kCellAxis,
      {"1", "passes from the first sublayer on that measuring the cell takes, output heads included"});
}

void ResultsFile::write_cell_segments(const Results& results) {
  file_.link("/segment/segment", "/cell/segment");
  const size_t segments = sequences_.segments().size();
  for (size_t i = 0; i < std::size(kCellColumns); ++i) {
    const Column& info = kCellColumns[i];
    if (!info.has(Axis::segment) || info.has(Axis::donor)) continue;
    put(file_, std::string("/cell/") + info.name + "_by_segment",
        by_cell(results, static_cast<CellColumn>(i), segments), {"/cell/cell", "/cell/segment"},
        {info.units, info.long_name});
  }
}

void ResultsFile::write_cell_routing(const Results& results) {
  const size_t sites = plan_.sites.size(), widest = static_cast<size_t>(plan_.max_sources());
  const auto outputs = outputs_of_states(plan_);
  std::vector<double> weights = by_cell(results, CellColumn::weight, sites * widest), coefficient;
  const double tokens = static_cast<double>(results.trace->tokens());
  for (double& weight : weights) weight /= tokens;
  for (size_t cell = 0; cell < results.cells.size(); ++cell)
    for (size_t site = 0; site < sites; ++site) {
      const std::span<const double> own(weights.data() + (cell * sites + site) * widest, widest);
      const SiteChange* const change =
          results.cells[cell].runs() ? &results.cells[cell].site_changes[site] : nullptr;
      const std::vector<double> of_site = coefficients(plan_.sites[site], outputs, own, change);
      coefficient.insert(coefficient.end(), of_site.begin(), of_site.end());
    }
  // Apart from /cell, where `site` and `source` are variables of cells.
  file_.group("/cell_routing");
  for (const char* axis : {"/cell/cell", "/site/site", "/site/source", "/routing/output"})
    file_.link(axis, std::string("/cell_routing") + (axis + std::string(axis).rfind('/')));
  put(file_, "/cell_routing/weight_mean", weights,
      {"/cell_routing/cell", "/cell_routing/site", "/cell_routing/source"},
      {"1", "mean weight over tokens, under the cell"});
  put(file_, "/cell_routing/coefficient", coefficient,
      {"/cell_routing/cell", "/cell_routing/site", "/cell_routing/output"},
      {"1", "mean factor of an output in a read, under the cell"});
}

void ResultsFile::write_token_effects(const Results& results) {
  std::vector<std::string> names;
  std::vector<float> changes;
  for (size_t i = 0; i < results.cells.size(); ++i) {
    if (!results.cells[i].per_token || results.comparison_of_cell[i] < 0) continue;
    names.push_back(results.cells[i].name);
    const std::vector<double>& own =
        results.outcome_of(results.comparison_of_cell, i)[CellColumn::token_delta_nll];
    changes.insert(changes.end(), own.begin(), own.end());
  }
  if (names.empty()) return;
  file_.group("/token_effect");
  file_.scale("/token_effect/token_cell", names, {"", "name of the cell"});
  file_.link("/sequence/sequence", "/token_effect/sequence");
  file_.link("/clean/token", "/token_effect/token");
  put(file_, "/token_effect/delta_nll", changes,
      {"/token_effect/token_cell", "/token_effect/sequence", "/token_effect/token"},
      {"nats/token", column_of(CellColumn::token_delta_nll).long_name});
}

void ResultsFile::write_grid(const Results& results) {
  // A cell of a grid is named after its place in it.
  std::map<std::string, size_t> by_name;
  std::vector<std::string> interventions, families, sublayers, bands;
  const auto note = [](std::vector<std::string>& list, const std::string& name) {
    if (std::find(list.begin(), list.end(), name) == list.end()) list.push_back(name);
  };
  const auto name_at = [](const auto& intervention, const auto& family, const auto& sublayer,
                          const auto& band) {
    return fmt::format("{}/{}/{}/{}", intervention, family, sublayer, band);
  };
  for (size_t i = 0; i < results.cells.size(); ++i) {
    const Cell& cell = results.cells[i];
    if (cell.name != name_at(cell.intervention_name(), cell.family, cell.sublayer, cell.band)) continue;
    by_name[cell.name] = i;
    note(interventions, cell.intervention_name());
  }
  if (by_name.empty()) return;
  // In the order of depth and of sources, whatever the order of the cells.
  std::vector<std::string> all_families = names<Family>();
  all_families.emplace_back("all");
  const auto keep = [&](const std::vector<std::string>& ordered, std::string Cell::*which) {
    std::vector<std::string> present;
    for (const std::string& value : ordered)
      for (const auto& [name, i] : by_name)
        if (results.cells[i].*which == value) {
          note(present, value);
          break;
        }
    return present;
  };
  families = keep(all_families, &Cell::family);
  sublayers = keep(names<Sublayer>(), &Cell::sublayer);
  bands = keep(names<Band>(), &Cell::band);

  file_.group("/grid");
  file_.scale("/grid/intervention", interventions, {"", "what is done"});
  file_.scale("/grid/family", families, {"", "source family; all for interventions on whole sites"});
  file_.scale("/grid/sublayer", sublayers, {"", "kind of sublayer"});
  file_.scale("/grid/band", bands, {"", "depth band"});
  std::vector<int64_t> index;
  for (const std::string& intervention : interventions)
    for (const std::string& family : families)
      for (const std::string& sublayer : sublayers)
        for (const std::string& band : bands) {
          const auto found = by_name.find(name_at(intervention, family, sublayer, band));
          index.push_back(found == by_name.end() ? -1 : static_cast<int64_t>(found->second));
        }
  const std::vector<std::string> axes = {"/grid/intervention", "/grid/family", "/grid/sublayer",
                                         "/grid/band"};
  put(file_, "/grid/cell_index", index, axes,
      {"1", "place of the cell among all cells; -1 if there is none"});
  const auto at = [&](const auto& get) {
    return column<double>(index, [&](int64_t i) { return i < 0 ? kMissing : get(results.effects[i]); });
  };
  for (size_t i = 0; i < std::size(kCellColumns); ++i) {
    const Column& info = kCellColumns[i];
    if (!info.rate) continue;
    std::vector<Estimate> estimates;
    for (const int64_t cell : index)
      estimates.push_back(cell < 0 ? missing_estimate() : results.effects[cell].rates[i]);
    put_estimates(file_, std::string("/grid/") + info.rate, estimates, axes,
                  {info.rate_units, info.rate_long_name}, level_);
  }
  put(file_, "/grid/mass", at([](const Effect& effect) { return effect.mass; }), axes,
      {"1", "mean over ablated sites of the clean weight on the cell's sources"});
}

void ResultsFile::write_plan(const Results& results) {
  const size_t widest = static_cast<size_t>(plan_.max_sources()), sites = plan_.sites.size();
  std::vector<uint8_t> sources(results.cells.size() * sites * widest, 0);
  for (size_t cell = 0; cell < results.cells.size(); ++cell) {
    const auto at = [&](const Edge& edge) -> uint8_t& {
      return sources[(cell * sites + static_cast<size_t>(edge.site)) * widest +
                     static_cast<size_t>(edge.source)];
    };
    for (const Edge& edge : results.cells[cell].sources) at(edge) = 1;
    for (const Edge& edge : results.cells[cell].skipped_sources) at(edge) = 2;
  }
  file_.group("/plan");
  file_.link("/cell/cell", "/plan/cell");
  file_.link("/site/site", "/plan/site");
  file_.link("/site/source", "/plan/source");
  put(file_, "/plan/sources", sources, {"/plan/cell", "/plan/site", "/plan/source"},
      {"1", "sources a cell is aimed at (only: the sources it keeps)"});
  file_.attribute("/plan/sources", "flag_values", std::span<const uint8_t>(std::vector<uint8_t>{0, 1, 2}));
  file_.attribute("/plan/sources", "flag_meanings", std::string("not_aimed_at ablated site_skipped"));
}

void ResultsFile::write_claims(const EvalConfig& config) {
  const std::vector<ClaimConfig>& claims = config.claims;
  if (claims.empty()) return;
  const std::vector<std::string> axis = {"/claim/claim"};
  file_.group("/claim");
  file_.scale(axis[0], column<std::string>(claims, [](const ClaimConfig& c) { return c.name; }),
              {"", "name of the claim"});
  put(file_, "/claim/cell", column<std::string>(claims, [](const ClaimConfig& c) { return c.cell; }), axis,
      {"", "cell the claim is about"});
  put(file_, "/claim/exceeds",
      column<std::string>(claims, [](const ClaimConfig& c) { return c.exceeds.value_or(""); }), axis,
      {"", "cell it is compared with; empty: none"});
  put(file_, "/claim/measure",
      column<std::string>(claims, [](const ClaimConfig& c) { return std::string(to_string(c.measure)); }),
      axis, {"", "quantity"});
  put(file_, "/claim/margin", column<double>(claims, [](const ClaimConfig& c) { return c.margin; }), axis,
      {"nats/token", "by how much the difference must exceed 0"});
  put(file_, "/claim/negative",
      column<int64_t>(claims, [](const ClaimConfig& c) { return static_cast<int64_t>(c.negative); }), axis,
      {"1", "1: the difference must be below minus the margin"});
}

}  // namespace depthroute
