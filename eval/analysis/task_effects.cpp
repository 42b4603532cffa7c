#include "eval/analysis/task_effects.h"

#include "eval/analysis/effects.h"

namespace depthroute {
namespace {

/// The estimate of a metric from that of its ratio of sums. A perplexity's standard error is to first order.
Estimate metric_estimate(const TaskMetric& metric, const Estimate& ratio) {
  const double value = metric.value(ratio.value);
  const double slope = metric.perplexity ? value * metric.factor : metric.factor;
  return {value, metric.value(ratio.low), metric.value(ratio.high), slope * ratio.standard_error};
}

std::vector<double> difference(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> result;
  for (size_t i = 0; i < a.size(); ++i) result.push_back(a[i] - b[i]);
  return result;
}

}  // namespace

void analyze_task(Results& results, const BootstrapOptions& options, BootstrapMemory& memory) {
  if (!results.sequences->requests()) return;
  const TaskDocuments& task = results.task.emplace(*results.sequences);
  const std::vector<double> nll = sums_by_segment(results, CleanColumn::nll);
  const std::vector<double> hits = sums_by_segment(results, CleanColumn::hit);
  const std::vector<Outcome>& outcomes = results.evaluation.outcomes;
  results.task_effects.resize(outcomes.size());
  for (const TaskMetric& metric : task.metrics()) {
    const std::vector<double> clean = task.numbers(metric, nll, hits);
    std::vector<std::vector<double>> numbers = {clean};
    for (size_t i = 0; i < outcomes.size(); ++i) {
      results.task_effects[i].numbers.push_back(task.numbers(metric, nll, hits, outcomes[i]));
      numbers.push_back(results.task_effects[i].numbers.back());
      numbers.push_back(difference(numbers.back(), clean));
    }
    const std::vector<std::span<const double>> quantities(numbers.begin(), numbers.end());
    const std::vector<Estimate> ratios = estimate_ratios(quantities, task.weights(metric), options, memory);
    results.clean_task.numbers.push_back(clean);
    results.clean_task.values.push_back(metric_estimate(metric, ratios[0]));
    for (size_t i = 0; i < outcomes.size(); ++i) {
      results.task_effects[i].values.push_back(metric_estimate(metric, ratios[1 + 2 * i]));
      results.task_effects[i].changes.push_back(metric_estimate(metric, ratios[2 + 2 * i]));
    }
  }
}

}  // namespace depthroute
