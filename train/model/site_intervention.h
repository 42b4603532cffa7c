// What may be done at one site of the model instead of the clean read (eval/SPEC.md §2). Data for the kernels
// that the clean run uses: there is no second forward path.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/tensor.h"

namespace depthroute {

/// Which part of a source is replaced: what is mixed (values), what the logits come from (keys), or both.
enum class Replaced : uint8_t { values, keys, both };

/// Other content for one source of a site. At most one per source.
struct Replacement {
  int source = 0;
  Replaced what = Replaced::both;
  /// [R,D] act on the device, R a divisor of the pass's N tokens: token t reads row t mod R. May be another
  /// state of the same pass, if it is complete when the site is read (Qwen3::state()).
  Tensor content;
};

/// The default is the clean run.
struct SiteIntervention {
  std::vector<float> offset;  // [n] added to the logits, -inf drops the source; empty: 0
  std::vector<float> scale;   // [n] factor of a_j V_j, not renormalised; empty: 1
  /// false: ignores pseudo-query, key norm and recency bias; the logits are the offsets alone.
  bool learned_logits = true;
  std::vector<Replacement> replaced;
  /// [R,n] f32 on the device, R as above: weights instead of the softmax, which then needs neither logits nor
  /// keys. Undefined: the softmax.
  Tensor weights;
  /// [N] i32 on the device: where it is 0, the token's read stays the clean one. Undefined: every token.
  Tensor tokens;

  /// Whether it is more than arguments of the clean read's one kernel call, so that the model needs
  /// Qwen3Options::interventions.
  bool needs_scratch() const { return !replaced.empty() || weights.defined() || tokens.defined(); }
};

}  // namespace depthroute
