// Cells (SPEC §5): which sources x which sites x what is done, resolved against a depth plan into data for
// sites. Every intervention is an offset, a scale and whether the learned logits count; there is no other
// forward path.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "configs/eval_config.h"
#include "train/model/depth_plan.h"
#include "train/model/qwen3.h"

namespace depthroute {

enum class Intervention : uint8_t { mask, only, zero, uniform, schedule, bias };
const char* to_string(Intervention intervention);

/// One source of one site that a cell is aimed at.
struct Edge {
  int site = 0;
  int source = 0;
  bool operator==(const Edge&) const = default;
  auto operator<=>(const Edge&) const = default;
};

struct Cell {
  std::string name;                    // unique: "mask/embedding/attn/early"
  std::string family, sublayer, band;  // for tables; families joined with '+', positions as "0,2"
  Intervention intervention = Intervention::mask;
  double value = 0;  // bias: the offset; schedule: b
  bool distinct = false;
  int first_site = 0;  // first ablated site: states up to it are the clean run's; num sites if none
  std::vector<SiteIntervention> site_interventions;  // one per site of the plan
  std::vector<Edge> sources;          // at ablated sites, in order; `only`: the sources that are kept
  std::vector<Edge> skipped_sources;  // aimed at, but nothing would be left at their site
  int sites_ablated = 0;
  int sites_skipped = 0;    // nothing would be left there
  int sites_absent = 0;     // chosen, but the cell has no source there (or nothing to change)
  int sites_duplicate = 0;  // of the ablated: a touched source has a copy that is not touched

  bool runs() const { return sites_ablated > 0; }
};

/// All cells of a configuration in its order, grids expanded (families, then sublayers, bands, interventions,
/// the last one fastest; edges by site and source). ConfigError naming the cell for what the plan does not
/// have: layers or positions out of range, `final` without a final site, equal names.
std::vector<Cell> resolve_cells(const std::vector<CellConfig>& configs, const DepthPlan& plan);

/// One site's part of an intervention: chosen[j] says whether source j is aimed at. Fills offset, scale,
/// learned_logits.
SiteIntervention site_intervention(Intervention intervention, double value, const std::vector<bool>& chosen);

}  // namespace depthroute
