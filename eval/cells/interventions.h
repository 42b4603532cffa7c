// What a cell does at each of its sites, given the sources it targets (eval/SPEC.md §2).
#pragma once

#include <cstdint>
#include <vector>

#include "eval/cells/grid.h"

namespace depthroute {

/// The sources a cell targets: families, or positions, or every source if neither is given.
struct SourceChoice {
  std::vector<Family> families;
  std::vector<int64_t> positions;
  bool contains(const Site& site, int source) const;
};

/// Fills first_site, site_interventions, edges and counts of the cell; intervention, value and distinct must
/// be set.
void apply_to_sites(Cell& cell, const DepthPlan& plan, const std::vector<int>& sites,
                    const SourceChoice& choice);

}  // namespace depthroute
