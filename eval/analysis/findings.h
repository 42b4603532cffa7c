// What an evaluation found, complete: what it was measured from, the outcomes, and what the statistics make
// of them. Written to the results file and shown in the report.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "eval/analysis/bootstrap.h"
#include "eval/cells/grid.h"
#include "eval/cells/known_answers.h"
#include "eval/measure/batch_record.h"
#include "eval/measure/routing_trace.h"

namespace depthroute {

/// Where the numbers come from: root attributes of the results file.
struct Provenance {
  std::string command_line, config_yaml, config_hash;
  std::string checkpoint_path, checkpoint_checksum;
  std::string parameters_before, parameters_after;  // parameters_checksum() around the evaluation
  std::vector<std::string> data_paths, data_checksums;
  std::vector<std::string> devices;  // of all ranks, each once
  std::string precision;
  uint64_t seed = 0;
  bool wrapped = false;

  void add_device(const std::string& device);
  /// Adds the checksum of one more rank; keeps one that differs from the first, if any does.
  void add_parameters_after(const std::string& checksum);
};

/// What the statistics make of one cell or known answer.
struct Effect {
  Estimate delta_nll, kl, flip_rate;  // per token: nats, nats, share of tokens
  double mass = 0;                    // clean weight on the cell's sources; NaN for known answers
  double eps_sensitivity =
      0;  // delta_nll of mask minus that of zero on the same sources; NaN unless both ran
};

struct Results {
  Provenance provenance;
  const DepthPlan* plan = nullptr;
  const RoutingTrace* trace = nullptr;
  std::vector<Cell> cells;
  std::vector<Effect> effects;         // one per cell; NaN where a cell did not run
  std::vector<Outcome> cell_outcomes;  // one per cell; empty where it did not run
  std::vector<KnownAnswer> known_answers;
  std::vector<Effect> known_answer_effects;
  std::vector<Outcome> known_answer_outcomes;
  Evaluation evaluation;  // clean run (outcomes moved out)
  Estimate clean;         // nats per token
  WrapperCheck wrapper;   // wrapped models only

  bool known_answers_pass() const;
};

}  // namespace depthroute
