#include "eval/analysis/effects.h"

#include <iterator>
#include <limits>

namespace depthroute {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr size_t kPerComparison = std::size(kOutcomeSums);

Effect missing_effect() { return {missing_estimate(), missing_estimate(), missing_estimate(), kNan, kNan}; }

void gather(const Outcome& outcome, std::vector<std::span<const double>>& quantities) {
  for (const OutcomeSum& sum : kOutcomeSums) quantities.push_back(outcome.*sum.values);
}

/// Reads the estimates of kOutcomeSums, in their order.
Effect effect_at(const std::vector<Estimate>& estimates, size_t first) {
  static_assert(kPerComparison == 3, "Effect has a member for every sum");
  return {estimates[first], estimates[first + 1], estimates[first + 2], kNan, kNan};
}

std::vector<double> clean_sums(const Evaluation& evaluation) {
  std::vector<double> sums;
  for (int64_t i = 0; i < evaluation.sequences; ++i) {
    double sum = 0;
    for (int64_t token = 0; token < evaluation.seq_len; ++token)
      sum += evaluation.clean_nll[static_cast<size_t>(i * evaluation.seq_len + token)];
    sums.push_back(sum);
  }
  return sums;
}

}  // namespace

std::vector<double> eps_sensitivities(std::span<const Cell> cells, std::span<const Effect> effects) {
  std::vector<double> result(cells.size(), kNan);
  for (size_t i = 0; i < cells.size(); ++i) {
    if (cells[i].intervention != Intervention::mask || !cells[i].runs()) continue;
    for (size_t k = 0; k < cells.size(); ++k) {
      if (cells[k].intervention != Intervention::zero || cells[k].sources != cells[i].sources) continue;
      result[i] = result[k] = effects[i].delta_nll.value - effects[k].delta_nll.value;
    }
  }
  return result;
}

int64_t analyzed_quantities(int64_t comparisons) {
  return 1 + static_cast<int64_t>(kPerComparison) * comparisons;
}

void analyze(Results& results, const BootstrapOptions& options, BootstrapMemory& memory) {
  const std::vector<double> clean = clean_sums(results.evaluation);
  std::vector<std::span<const double>> quantities = {clean};
  for (const Outcome& outcome : results.cell_outcomes)
    if (!outcome.delta_nll.empty()) gather(outcome, quantities);
  for (const Outcome& outcome : results.known_answer_outcomes) gather(outcome, quantities);
  const std::vector<Estimate> estimates =
      estimate_ratios(quantities, results.evaluation.tokens, options, memory);

  results.clean = estimates[0];
  size_t next = 1;
  results.effects.assign(results.cells.size(), missing_effect());
  for (size_t i = 0; i < results.cells.size(); ++i) {
    if (results.cell_outcomes[i].delta_nll.empty()) continue;
    results.effects[i] = effect_at(estimates, next);
    results.effects[i].mass = results.trace->mass(results.cells[i]);
    next += kPerComparison;
  }
  const std::vector<double> sensitivities = eps_sensitivities(results.cells, results.effects);
  for (size_t i = 0; i < results.cells.size(); ++i) results.effects[i].eps_sensitivity = sensitivities[i];
  results.known_answer_effects.clear();
  for (size_t i = 0; i < results.known_answers.size(); ++i, next += kPerComparison)
    results.known_answer_effects.push_back(effect_at(estimates, next));
}

}  // namespace depthroute
