// The part of a cell that is about sites: given which sources are meant, what happens at each one. Used by
// cells.cpp.
#pragma once

#include <cstdint>
#include <vector>

#include "eval/cells/grid.h"

namespace depthroute {

/// What is aimed at: families, or positions, or (neither given) every source.
struct SourceChoice {
  std::vector<Family> families;
  std::vector<int64_t> positions;
  bool contains(const Site& site, int source) const;
};

/// uniform and schedule set all weights of a site; there are no sources to choose.
bool acts_on_all_sources(Intervention intervention);

/// Fills everything of the cell but its name and texts; intervention, value and distinct must be set.
void apply_to_sites(Cell& cell, const DepthPlan& plan, const std::vector<int>& sites,
                    const SourceChoice& choice);

}  // namespace depthroute
