// A cell (eval/SPEC.md §2): which sources, at which sites, and what is done to them, resolved against a depth
// plan.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "configs/terms.h"
#include "eval/cells/site_change.h"

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
  std::optional<Intervention> intervention = Intervention::mask;  // none: a union
  double value = 0;  // bias: the offset; schedule: the recency bias
  bool distinct = false;
  std::string replace, average;  // "" where the intervention has no such option
  std::string tokens;            // TokenRange::text(); "" for a union of different ones
  std::string union_of;          // names of its members, joined with " + "; "" if it is none
  int site = -1, source = -1;    // of a cell of `edges: all`; otherwise -1
  bool per_token = false;        // whether the effect on every token is stored

  /// First ablated site: states up to it are the clean run's. The number of sites if none is ablated.
  int first_site = 0;
  std::vector<SiteChange> site_changes;  // one per site of the plan
  /// Passes a measurement takes: the number of donors where contents are resampled; otherwise 1.
  int64_t repeats = 1;
  uint64_t donor_seed = 0;            // of the choice of donors, where there are any
  std::vector<Edge> sources;          // at ablated sites, in order; `only`: the sources that are kept
  std::vector<Edge> skipped_sources;  // targeted, but nothing would be left at their site
  std::vector<int> absent_sites;
  int sites_ablated = 0;
  int sites_skipped = 0;    // nothing would be left there
  int sites_absent = 0;     // chosen, but the cell has no source there or nothing to change
  int sites_duplicate = 0;  // of the ablated: a touched source has a copy that is not touched

  bool runs() const { return sites_ablated > 0; }
  bool is_union() const { return !union_of.empty(); }
  /// The name of the intervention, or "union".
  std::string intervention_name() const { return intervention ? to_string(*intervention) : "union"; }
  bool uses_donors() const;
  /// Text of what is done where, for hashes: equal for cells with equal interventions. Does not say what the
  /// calibration means and the donors are taken from.
  std::string canonical() const;
};

}  // namespace depthroute
