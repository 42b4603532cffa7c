// What an evaluation found, complete: what it was measured from, the outcomes, and what the statistics make
// of them. Written to the results file and shown in the report.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "eval/analysis/bootstrap.h"
#include "eval/analysis/task_outcomes.h"
#include "eval/cells/grid.h"
#include "eval/cells/known_answers.h"
#include "eval/measure/evaluation.h"
#include "eval/measure/routing_trace.h"

namespace depthroute {

/// Where the numbers come from: root attributes of the results file.
struct Provenance {
  std::string command_line, config_yaml, config_hash;
  std::string measurement, measurement_hash;  // "key: value" lines of what the measurement depends on
  std::string analysis_hash, claims_hash;
  std::string checkpoint_path, checkpoint_checksum;
  int64_t checkpoint_step = -1;                     // -1: unknown
  std::string parameters_before, parameters_after;  // parameters_checksum() around the evaluation
  std::vector<std::string> data_paths, data_checksums;
  std::string tokenizer, tokenizer_checksum;  // of the data, by their manifests; "": unknown, none
  std::vector<std::string> devices;           // of all ranks, each once
  std::string precision;
  bool wrapped = false;

  /// What is known before anything is measured: nothing of devices, precision and parameters.
  Provenance without_units() const;
  void add_device(const std::string& device);
  /// Adds the checksum of one more rank; keeps one that differs from the first, if any does.
  void add_parameters_after(const std::string& checksum);
};

/// What the statistics make of one cell or known answer.
struct Effect {
  std::vector<Estimate> rates;  // per token, by CellColumn; missing where a column has no rate
  double mass = 0;              // clean weight on the cell's sources; NaN for known answers
  /// delta_nll of mask minus that of zero on the same sources; NaN unless both ran.
  double eps_sensitivity = 0;
  double donor_std = 0;              // of delta_nll over donors; NaN unless there are several
  double largest_change = 0;         // of any token, nats
  bool out_of_distribution = false;  // the ablated nll exceeds the entropy of the tokens' own distribution

  const Estimate& operator[](CellColumn column) const { return rates[static_cast<size_t>(column)]; }
};

/// A task's metrics in one run, in the order of metrics_of().
struct TaskEffect {
  std::vector<std::vector<double>> numbers;  // per document
  std::vector<Estimate> values;
  std::vector<Estimate> changes;  // against the clean run; none of the clean run itself
};

struct Results {
  Provenance provenance;
  std::string variant;  // of what ran
  const DepthPlan* plan = nullptr;
  const RoutingTrace* trace = nullptr;
  const Sequences* sequences = nullptr;
  Evaluation evaluation;  // outcomes by comparison
  std::vector<Cell> cells;
  std::vector<int> comparison_of_cell;  // index of its outcome; -1 where it did not run
  std::vector<std::string> comparison_hashes;
  std::vector<double> cost_of_cell;  // forward passes
  std::vector<Effect> effects;       // one per cell; NaN where a cell did not run
  std::vector<KnownAnswer> known_answers;
  std::vector<int> comparison_of_known_answer;
  std::vector<Effect> known_answer_effects;
  Estimate clean;                     // nats per token
  double accuracy = 0;                // share of tokens whose most likely next token follows, clean run
  double unigram_entropy = 0;         // of the targets, nats
  std::optional<TaskDocuments> task;  // of requests only
  TaskEffect clean_task;
  std::vector<TaskEffect> task_effects;  // by comparison
  WrapperCheck wrapper;                  // wrapped models only
  std::vector<double> recency_bias;      // of the wrapper: one value or one per site

  const Outcome& outcome_of(const std::vector<int>& which, size_t i) const {
    return evaluation.outcomes[which[i]];
  }
  bool known_answers_pass() const;
};

}  // namespace depthroute
