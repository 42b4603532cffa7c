#include "eval/analysis/effects.h"

#include <cmath>
#include <limits>
#include <map>
#include <unordered_map>

#include "configs/base/check.h"

namespace depthroute {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr size_t kColumns = std::size(kCellColumns);

constexpr int64_t rates_of_a_comparison() {
  int64_t rates = 0;
  for (const Column& column : kCellColumns) rates += column.rate != nullptr;
  return rates;
}

Effect missing_effect() {
  return {std::vector<Estimate>(kColumns, missing_estimate()), kNan, kNan, kNan, kNan, false};
}

/// Spread over donors of the estimate that each gives.
double donor_std(const Outcome& outcome, double tokens) {
  const std::vector<double>& sums = outcome[CellColumn::donor_delta_nll];
  if (sums.size() < 2) return kNan;
  double mean = 0, squares = 0;
  for (const double sum : sums) mean += sum / static_cast<double>(sums.size());
  for (const double sum : sums) squares += (sum - mean) * (sum - mean);
  return std::sqrt(squares / static_cast<double>(sums.size() - 1)) / tokens;
}

/// The effect whose estimates are those of one comparison, `estimates[first]` and what follows.
Effect effect_at(const std::vector<Estimate>& estimates, size_t first, const Outcome& outcome,
                 const Results& results, double tokens) {
  Effect effect = missing_effect();
  for (size_t i = 0; i < kColumns; ++i)
    if (kCellColumns[i].rate) effect.rates[i] = estimates[first++];
  effect.largest_change = outcome[CellColumn::largest_change].front();
  effect.donor_std = donor_std(outcome, tokens);
  effect.out_of_distribution =
      results.clean.value + effect[CellColumn::delta_nll].value > results.unigram_entropy;
  return effect;
}

}  // namespace

Documents::Documents(std::span<const Segment> segments) {
  std::unordered_map<int64_t, int64_t> index;
  for (const Segment& segment : segments) {
    const auto [at, added] = index.try_emplace(segment.document, static_cast<int64_t>(tokens.size()));
    if (added) tokens.push_back(0);
    of_segment.push_back(at->second);
    tokens[at->second] += segment.tokens;
  }
}

std::vector<double> Documents::sums(std::span<const double> by_segment) const {
  DR_CHECK(by_segment.size() == of_segment.size());
  std::vector<double> sums(tokens.size(), 0.0);
  for (size_t i = 0; i < by_segment.size(); ++i) sums[of_segment[i]] += by_segment[i];
  return sums;
}

std::vector<double> sums_by_segment(const Results& results, CleanColumn column) {
  const std::vector<double>& values = results.evaluation.clean[column];
  const int64_t t = results.sequences->seq_len();
  std::vector<double> sums;
  for (const Segment& segment : results.sequences->segments()) {
    double sum = 0;
    const int64_t begin = segment.sequence * t + segment.first_token;
    for (int64_t at = begin; at < begin + segment.tokens; ++at) sum += values[static_cast<size_t>(at)];
    sums.push_back(sum);
  }
  return sums;
}

double unigram_entropy(const Sequences& sequences) {
  const size_t t = static_cast<size_t>(sequences.seq_len());
  std::vector<int32_t> tokens(t), targets(t);
  std::map<int32_t, int64_t> counts;
  int64_t total = 0;
  for (int64_t i = 0; i < sequences.size(); ++i) {
    sequences.read(i, tokens, targets);
    for (const int32_t target : targets)
      if (target >= 0) ++counts[target], ++total;
  }
  double entropy = 0;
  for (const auto& [target, count] : counts) {
    const double p = static_cast<double>(count) / static_cast<double>(total);
    entropy -= p * std::log(p);
  }
  return entropy;
}

std::vector<double> eps_sensitivities(std::span<const Cell> cells, std::span<const Effect> effects) {
  std::vector<double> result(cells.size(), kNan);
  for (size_t i = 0; i < cells.size(); ++i) {
    if (cells[i].intervention != Intervention::mask || !cells[i].runs()) continue;
    for (size_t k = 0; k < cells.size(); ++k) {
      if (cells[k].intervention != Intervention::zero || cells[k].sources != cells[i].sources ||
          cells[k].tokens != cells[i].tokens)
        continue;
      result[i] = result[k] =
          effects[i][CellColumn::delta_nll].value - effects[k][CellColumn::delta_nll].value;
    }
  }
  return result;
}

int64_t analyzed_quantities(int64_t comparisons) { return 2 + rates_of_a_comparison() * comparisons; }

void analyze(Results& results, const BootstrapOptions& options, BootstrapMemory& memory) {
  const Documents documents(results.sequences->segments());
  std::vector<std::vector<double>> sums = {documents.sums(sums_by_segment(results, CleanColumn::nll)),
                                           documents.sums(sums_by_segment(results, CleanColumn::hit))};
  for (const Outcome& outcome : results.evaluation.outcomes)
    for (size_t i = 0; i < kColumns; ++i)
      if (kCellColumns[i].rate) sums.push_back(documents.sums(outcome.values[i]));
  const std::vector<std::span<const double>> quantities(sums.begin(), sums.end());
  const std::vector<Estimate> estimates = estimate_ratios(quantities, documents.tokens, options, memory);

  double tokens = 0;
  for (const int64_t count : documents.tokens) tokens += static_cast<double>(count);
  results.clean = estimates[0];
  results.accuracy = estimates[1].value;
  const auto effect_of = [&](int comparison) {
    const size_t first = static_cast<size_t>(2 + rates_of_a_comparison() * comparison);
    return effect_at(estimates, first, results.evaluation.outcomes[comparison], results, tokens);
  };
  results.effects.assign(results.cells.size(), missing_effect());
  for (size_t i = 0; i < results.cells.size(); ++i) {
    if (results.comparison_of_cell[i] < 0) continue;
    results.effects[i] = effect_of(results.comparison_of_cell[i]);
    results.effects[i].mass = results.trace->mass(results.cells[i]);
  }
  const std::vector<double> sensitivities = eps_sensitivities(results.cells, results.effects);
  for (size_t i = 0; i < results.cells.size(); ++i) results.effects[i].eps_sensitivity = sensitivities[i];
  results.known_answer_effects.clear();
  for (const int comparison : results.comparison_of_known_answer)
    results.known_answer_effects.push_back(effect_of(comparison));
}

}  // namespace depthroute
