// Cells (eval/SPEC.md §2): which sources, at which sites, and what is done to them. Resolves a configuration
// against a depth plan into data for sites. Every intervention is an offset, a scale and whether the learned
// logits count; there is no second forward path.
#pragma once

#include <string>
#include <vector>

#include "configs/eval_config.h"
#include "train/model/depth_plan.h"
#include "train/model/qwen3.h"

namespace depthroute {

/// One source of one site that a cell targets.
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
  double value = 0;  // bias: the offset; schedule: the recency bias
  bool distinct = false;
  /// First ablated site: states up to it are the clean run's. The number of sites if none is ablated.
  int first_site = 0;
  std::vector<SiteIntervention> site_interventions;  // one per site of the plan
  std::vector<Edge> sources;          // at ablated sites, in order; `only`: the sources that are kept
  std::vector<Edge> skipped_sources;  // targeted, but nothing would be left at their site
  int sites_ablated = 0;
  int sites_skipped = 0;    // nothing would be left there
  int sites_absent = 0;     // chosen, but the cell has no source there or nothing to change
  int sites_duplicate = 0;  // of the ablated: a touched source has a copy that is not touched

  bool runs() const { return sites_ablated > 0; }
};

/// Returns the cells of all grids, then the single ones, each list in its order. A grid's cells come by
/// family, sublayer, band and intervention, the last one fastest; those of `edges: all` by site, source and
/// intervention. ConfigError naming the cell for what the plan does not have (a layer or position out of
/// range, `final` without a final site) and for equal names.
std::vector<Cell> resolve_cells(const std::vector<GridConfig>& grids, const std::vector<CellConfig>& singles,
                                const DepthPlan& plan);

/// What an intervention sets at one site with chosen.size() sources; chosen[j] says whether source j is
/// targeted. Offset and scale have one entry per source, or none where they change nothing.
SiteIntervention site_intervention(Intervention intervention, double value, const std::vector<bool>& chosen);

}  // namespace depthroute
