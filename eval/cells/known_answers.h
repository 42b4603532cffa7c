// Known answers (eval/SPEC.md §6): interventions whose effect is known beforehand. Every results file has
// them; they run like any cell.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "eval/cells/site_change.h"
#include "train/model/depth_plan.h"

namespace depthroute {

struct KnownAnswer {
  std::string name;
  std::string expectation;  // in words, for the report
  double limit = 0;  // largest |delta nll| or KL of a token that passes, in nats; NaN: shown, not judged
  int first_site = 0;
  std::vector<SiteChange> site_changes;  // one per site
  bool judged() const { return limit == limit; }
  /// False means that the measurement is wrong: the program must fail. NaN never passes.
  bool passes(double largest_change) const { return !judged() || largest_change <= limit; }
};

struct KnownAnswerOptions {
  /// Activations are float32, so that what is 0 up to rounding can be judged; in bf16 it is only shown.
  bool fp32 = true;
  /// Calibration means will be there (Contents::calibrate()).
  bool calibrated = false;
};

/// Returns the known answers of a model: identity (neutral offsets and scales, from the first site and from
/// the middle), all sources times two, `uniform` everywhere, the clean run's own weights everywhere
/// (hold_everywhere), the same sources in another order (permuted_sources, where a site has three or more) and,
/// for a wrapped model, `schedule` with the wrapper's own recency bias and `freeze`. `recency_bias`: one value
/// or one per site; empty if the model is not wrapped. A plain model has the identity alone.
std::vector<KnownAnswer> make_known_answers(const DepthPlan& plan, std::span<const double> recency_bias,
                                            const KnownAnswerOptions& options = {});

}  // namespace depthroute
