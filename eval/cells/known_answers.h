// Known answers (eval/SPEC.md §5): interventions whose effect is known beforehand. Every results file has
// them; they run like any cell.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "train/model/depth_plan.h"
#include "train/model/qwen3.h"

namespace depthroute {

struct KnownAnswer {
  std::string name;
  std::string expectation;  // in words, for the report
  double limit = 0;  // largest |delta nll| or KL of a token that passes, in nats; NaN: shown, not judged
  int first_site = 0;
  std::vector<SiteIntervention> site_interventions;  // one per site
  bool judged() const { return limit == limit; }
  /// False means that the measurement is wrong: the program must fail. NaN never passes.
  bool passes(double largest_change) const { return !judged() || largest_change <= limit; }
};

/// Returns the known answers of a model: identity (neutral offsets and scales, from the first site and from
/// the middle), all sources times two, `uniform` everywhere and, for a wrapped model, `schedule` with the
/// wrapper's own recency bias. `recency_bias`: one value or one per site; empty if the model is not wrapped.
/// A plain Qwen3 has the identity alone.
std::vector<KnownAnswer> make_known_answers(const DepthPlan& plan, std::span<const double> recency_bias);

}  // namespace depthroute
