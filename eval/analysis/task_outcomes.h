// What a benchmark task's metrics are made of (eval/SPEC.md §5): numbers per document, from the log-likelihoods and
// hits of its requests, as the EleutherAI harness (lm_eval 0.4) computes them. The clean run and every cell go
// through the same functions.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "eval/measure/columns.h"
#include "eval/sequences/sequences.h"

namespace depthroute {

/// What a metric counts in a document: its negative log-likelihood, or 1 where the harness calls it right: by greedy
/// decoding, or by the choice of the largest log-likelihood (per character, per byte).
enum class TaskNumber : uint8_t { nll, greedy, choice, choice_per_character, choice_per_byte };
/// What a metric's sums are divided by.
enum class TaskWeight : uint8_t { document, word, byte };

/// A metric: sum over documents of a number, over the sum of weights, times `factor`, and its exp if it is a
/// perplexity. A cell's change is the difference to the clean run, or the ratio of perplexities.
struct TaskMetric {
  const char *name, *units, *long_name;
  TaskNumber number;
  TaskWeight weight = TaskWeight::document;
  double factor = 1;
  bool perplexity = false;

  /// Of the number per document: "acc", "nll".
  const char* number_name() const { return number == TaskNumber::nll ? "nll" : name; }
  const char* number_units() const { return number == TaskNumber::nll ? "nats" : "1"; }
  std::string change_name() const;  // "delta_acc", "perplexity_ratio"
  std::string change_long_name() const;
  /// Of an estimate of the ratio of sums, or of its difference to the clean run's.
  double value(double ratio) const;
};
std::span<const TaskMetric> metrics_of(TaskType type);

/// The documents of a task that are measured, in order, and which segments are theirs.
class TaskDocuments {
 public:
  /// `sequences` are requests, and must outlive this object.
  explicit TaskDocuments(const Sequences& sequences);
  int64_t size() const { return static_cast<int64_t>(first_segments_.size()) - 1; }
  std::span<const TaskMetric> metrics() const { return metrics_of(type_); }
  const RequestDocument& document(int64_t index) const;
  /// What the metric's sums are divided by, per document.
  std::vector<int64_t> weights(const TaskMetric& metric) const;
  /// The metric's number of every document, from the negative log-likelihood and the hits of every segment. NaN
  /// where one of its requests has no finite likelihood.
  std::vector<double> numbers(const TaskMetric& metric, std::span<const double> nll,
                              std::span<const double> hits) const;
  /// The same under a cell: mean over donors where it was measured with several.
  std::vector<double> numbers(const TaskMetric& metric, std::span<const double> clean_nll,
                              std::span<const double> clean_hits, const Outcome& outcome) const;

 private:
  double number(const TaskMetric& metric, size_t document, std::span<const double> nll,
                std::span<const double> hits) const;
  const Sequences& sequences_;
  TaskType type_;
  std::vector<size_t> first_segments_;  // of each document, and the end
};

}  // namespace depthroute
