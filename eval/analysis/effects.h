// Turns outcomes per sequence into effects with intervals, from one set of bootstrap draws for the clean run,
// every cell and every known answer.
#pragma once

#include <span>
#include <vector>

#include "eval/analysis/findings.h"

namespace depthroute {

/// Quantities that analyze() estimates, given so many comparisons (cells that run, and known answers): a
/// number for BootstrapMemory.
int64_t analyzed_quantities(int64_t comparisons);

/// Fills clean, effects (mass and eps_sensitivity included) and known_answer_effects from what the evaluation
/// measured.
void analyze(Results& results, const BootstrapOptions& options, BootstrapMemory& memory);

/// Returns, for every mask and zero cell, the delta_nll of mask minus that of zero on the same sources; NaN
/// unless both ran.
std::vector<double> eps_sensitivities(std::span<const Cell> cells, std::span<const Effect> effects);

}  // namespace depthroute
