// Turns outcomes per segment into effects with intervals: sums per document, and one set of bootstrap draws
// for the clean run, every cell and every known answer.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "eval/analysis/findings.h"

namespace depthroute {

/// From so many documents on, intervals cover what they promise (tests/analysis).
inline constexpr int64_t kEnoughDocuments = 200;

/// The units of statistics: which document each segment belongs to, and how many tokens count in it.
struct Documents {
  std::vector<int64_t> of_segment;  // index of its document
  std::vector<int64_t> tokens;      // per document, in the order of their first segment
  explicit Documents(std::span<const Segment> segments);
  std::vector<double> sums(std::span<const double> by_segment) const;
};

/// Quantities that analyze() estimates, given so many comparisons (cells that run, and known answers): a
/// number for BootstrapMemory.
int64_t analyzed_quantities(int64_t comparisons);

/// Fills clean, accuracy, effects (mass and eps_sensitivity included) and known_answer_effects from what the
/// evaluation measured.
void analyze(Results& results, const BootstrapOptions& options, BootstrapMemory& memory);

/// Sums of a column of the clean run [sequence, token] over the tokens of each segment.
std::vector<double> sums_by_segment(const Results& results, CleanColumn column);

/// Entropy in nats of the distribution of the targets that count: what a model without context can reach.
double unigram_entropy(const Sequences& sequences);

/// Returns, for every mask and zero cell, the delta_nll of mask minus that of zero on the same sources; NaN
/// unless both ran.
std::vector<double> eps_sensitivities(std::span<const Cell> cells, std::span<const Effect> effects);

}  // namespace depthroute
