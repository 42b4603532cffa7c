// What a cell does at each of its sites, given the sources it targets (eval/SPEC.md §2).
#pragma once

#include <cstdint>
#include <vector>

#include "eval/cells/cell.h"
#include "train/model/depth_plan.h"

namespace depthroute {

/// The sources a cell targets: families, or positions, or every source if neither is given.
struct SourceChoice {
  std::vector<Family> families;
  std::vector<int64_t> positions;
  bool contains(const Site& site, int source) const;
};

/// An intervention with its options.
struct Action {
  Intervention intervention = Intervention::mask;
  double value = 0;  // bias: the offset; schedule: the recency bias
  bool distinct = false;
  Replaced replaced = Replaced::both;  // mean, resample, permute
  Average average = Average::all;      // mean, freeze
  TokenRange tokens;
};

/// Returns what an action sets at one site; chosen[j] says whether source j is targeted.
SiteChange site_change(const Action& action, const Site& site, const std::vector<bool>& chosen);

/// Fills what a cell says of its action, and its first_site, site_changes, edges and counts.
void apply_to_sites(Cell& cell, const Action& action, const DepthPlan& plan, const std::vector<int>& sites,
                    const SourceChoice& choice);

/// Whether a touched source has an untouched copy at its site.
bool has_untouched_copy(const Site& site, const std::vector<bool>& touched);

}  // namespace depthroute
