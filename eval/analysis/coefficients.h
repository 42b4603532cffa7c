// How much of every sublayer's output is in a read: c_i = sum of a_j over the sources whose state contains
// output i (eval/SPEC.md §4). Output 0 is the embedding, output i + 1 that of sublayer i.
#pragma once

#include <span>
#include <vector>

#include "eval/cells/site_change.h"
#include "train/model/depth_plan.h"

namespace depthroute {

/// Per state 0 ... 2L: the outputs it is the sum of, in order.
std::vector<std::vector<int>> outputs_of_states(const DepthPlan& plan);

/// "embedding", "layers.0.attn", ...
std::vector<std::string> output_names(const DepthPlan& plan);

/// Coefficients [2L + 1] at a site whose mean weights are `weights` [n], under `change` (nullptr: the clean
/// run). A source's scale counts, and what replaces its values contains the outputs of its own state only if it
/// is another source. NaN if the change scales or replaces at some tokens only, where mean weights do not tell.
std::vector<double> coefficients(const Site& site, const std::vector<std::vector<int>>& outputs_of_states,
                                 std::span<const double> weights, const SiteChange* change);

}  // namespace depthroute
