// Unions: cells that make all changes of other cells at once.
#pragma once

#include <span>

#include "eval/cells/cell.h"
#include "train/model/depth_plan.h"

namespace depthroute {

/// Fills `cell`, which has its name, with what `members` do, site by site. A site counts as ablated if a
/// member changes it, unless their changes together leave nothing there (skipped). ConfigError naming two
/// members and a site where their changes exclude each other.
void unite(Cell& cell, std::span<const Cell* const> members, const DepthPlan& plan);

}  // namespace depthroute
