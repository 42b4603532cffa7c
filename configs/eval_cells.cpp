#include "configs/eval_cells.h"

#include <fmt/format.h>

#include <algorithm>

namespace depthroute {
namespace {

using Names = std::vector<std::string>;

bool contains(const Names& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

class CellCheck {
 public:
  CellCheck(const CellConfig& cell, std::string path, const Given& given)
      : cell_(cell), path_(std::move(path)), given_(given) {}

  void run() const {
    if (cell_.is_grid)
      check_grid();
    else
      check_single();
    const Names& interventions = cell_.is_grid ? cell_.interventions : Names{cell_.intervention};
    const std::string prefix = cell_.is_grid ? "grid." : "";
    if (uses_value(cell_))
      need(prefix + "value", "interventions 'bias' and 'schedule'");
    else
      refuse(prefix + "value", "only 'bias' and 'schedule' take a value");
    const bool any_sourceless = std::any_of(interventions.begin(), interventions.end(), is_sourceless);
    if (cell_.distinct && any_sourceless)
      refuse(prefix + "distinct", "'uniform' and 'schedule' set all weights of a site, copies included");
  }

 private:
  bool has(const std::string& key) const { return given_.has(path_ + "." + key); }
  void need(const std::string& key, const std::string& whom) const {
    if (!has(key))
      given_.fail({path_ + "." + key}, fmt::format("{}.{} is required for {}", path_, key, whom));
  }
  void refuse(const std::string& key, const std::string& why) const {
    if (has(key))
      given_.fail({path_ + "." + key}, fmt::format("{}.{} does not go here: {}", path_, key, why));
  }

  void check_grid() const {
    for (const char* key :
         {"name", "sources", "sublayers", "bands", "layers", "intervention", "value", "distinct"})
      refuse(key, "this entry is a grid");
    need("grid.interventions", "a grid");
    const bool sourceless =
        std::any_of(cell_.interventions.begin(), cell_.interventions.end(), is_sourceless);
    const bool sourced = !std::all_of(cell_.interventions.begin(), cell_.interventions.end(), is_sourceless);
    if (sourceless && sourced)
      given_.fail(
          {path_ + ".grid.interventions"},
          path_ +
              ".grid.interventions: 'uniform' and 'schedule' have no sources; give them a grid of their "
              "own, without families");
    const std::string whole_site = "'uniform' and 'schedule' set all weights of a site and have no sources";
    if (sourceless) refuse("grid.families", whole_site);
    if (sourceless) refuse("grid.edges", whole_site);
    if (cell_.edges) {
      for (const char* key : {"grid.families", "grid.sublayers", "grid.bands"})
        refuse(key, "edges: all stands for every source of every site");
      return;
    }
    if (!sourceless) need("grid.families", "a grid of interventions with sources (or edges: all)");
    need("grid.sublayers", "a grid");
    if (has_layers(cell_.grid_sublayers))
      need("grid.bands", "sublayers 'attn' and 'mlp'");
    else
      refuse("grid.bands", "the final site is in no band");
  }

  void check_single() const {
    need("name", "a cell outside a grid");
    need("intervention", "a cell outside a grid");
    need("sublayers", "a cell outside a grid");
    if (is_sourceless(cell_.intervention))
      refuse("sources", fmt::format("'{}' sets all weights of a site", cell_.intervention));
    else
      need("sources", fmt::format("intervention '{}'", cell_.intervention));
    if (has_layers(cell_.sublayers)) return;
    refuse("bands", "the final site is in no band");
    refuse("layers", "the final site is in no layer");
  }

  static bool has_layers(const Names& sublayers) {
    return contains(sublayers, "attn") || contains(sublayers, "mlp");
  }

  const CellConfig& cell_;
  std::string path_;
  const Given& given_;
};

}  // namespace

const Names& family_names() {
  static const Names kNames = {"embedding", "older", "recent", "current"};
  return kNames;
}
const Names& sublayer_names() {
  static const Names kNames = {"attn", "mlp", "final"};
  return kNames;
}
const Names& band_names() {
  static const Names kNames = {"early", "mid", "late"};
  return kNames;
}
const Names& intervention_names() {
  static const Names kNames = {"mask", "only", "zero", "uniform", "schedule", "bias"};
  return kNames;
}
const Names& planned_intervention_names() {
  static const Names kNames = {"mean", "resample", "freeze"};
  return kNames;
}

bool is_sourceless(const std::string& intervention) {
  return intervention == "uniform" || intervention == "schedule";
}

bool uses_value(const CellConfig& cell) {
  if (!cell.is_grid) return cell.intervention == "bias" || cell.intervention == "schedule";
  return contains(cell.interventions, "bias") || contains(cell.interventions, "schedule");
}

void check_cell(const CellConfig& cell, const std::string& path, const Given& given) {
  CellCheck(cell, path, given).run();
}

}  // namespace depthroute
