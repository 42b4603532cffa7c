// Resolves the grids and cells of a configuration against a depth plan into cells: data for sites. There is no
// second forward path.
#pragma once

#include <string>
#include <vector>

#include "configs/eval_config.h"
#include "eval/cells/cell.h"
#include "train/model/depth_plan.h"

namespace depthroute {

/// Returns the cells of all grids, then the single ones, each list in its order. A grid's cells come by
/// family, sublayer, bands then layers, and intervention, the last one fastest; those of `edges: all` by site,
/// source and intervention. ConfigError naming the cell for what the plan does not have (a layer or position
/// out of range, `final` without a final site), for equal names, and for unions whose members do not exist,
/// are unions themselves, or exclude each other.
std::vector<Cell> resolve_cells(const std::vector<GridConfig>& grids, const std::vector<CellConfig>& singles,
                                const DepthPlan& plan, const ResampleConfig& resample = {});

}  // namespace depthroute
