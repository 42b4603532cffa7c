// The results file (SPEC §6): one HDF5 file, written beside its final place and renamed, so it is whole or
// absent. Equal runs give equal bytes but for the root attribute `created`.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/atomic_path.h"
#include "eval/analysis/bootstrap.h"
#include "eval/cells/grid.h"
#include "eval/cells/known_answers.h"
#include "eval/measure/batch_record.h"
#include "eval/measure/routing_trace.h"
#include "eval/results/hdf5.h"

namespace depthroute {

inline constexpr int64_t kResultsSchemaVersion = 1;

/// Where the numbers come from: root attributes.
struct Provenance {
  std::string command_line, config_yaml, config_hash;
  std::string checkpoint_path, checkpoint_checksum;
  std::string parameters_before, parameters_after;  // parameters_checksum() around the evaluation
  std::vector<std::string> data_paths, data_checksums;
  std::vector<std::string> devices;  // of the processes, each once
  std::string precision;
  uint64_t seed = 0;
  bool wrapped = false;

  void add_device(const std::string& device);
  /// Of one more process: the checksum kept is one that differs from the first, if any does.
  void add_parameters_after(const std::string& checksum);
};

/// What the statistics make of one cell or known answer.
struct Effect {
  Estimate delta_nll, kl, flip_rate;  // per token: nats, nats, share of tokens
  double mass = 0;                    // clean weight on the cell's sources; NaN for known answers
  double eps_sensitivity = 0;  // mask's delta nll minus zero's on the same sources; NaN without the other one
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

inline constexpr const char* kWeightsLongName =
    "weight of a source, times 65535 and rounded; 0 where a site has fewer sources";

/// Throws InputError if `path` cannot become a results file: it names a folder, something is there that is
/// not a results file of ours, or its folder cannot be written or made. Creates nothing, waits for nothing.
void check_output_path(const std::string& path);
/// The same, but what is at `path` already is not looked at.
void check_output_place(const std::string& path);

class ResultsFile {
 public:
  /// Creates the temporary file; its folder must exist. Without commit() nothing of it remains. `weights`:
  /// with room for every single weight.
  ResultsFile(const std::string& path, const DepthPlan& plan, int64_t sequences, int64_t seq_len,
              bool weights);
  ResultsFile(const ResultsFile&) = delete;
  ResultsFile& operator=(const ResultsFile&) = delete;

  /// A batch's weights, if the file has room for them.
  void write_weights(const BatchRecord& record);
  void write(const Results& results);
  /// Closes, fsyncs, renames.
  void commit();

 private:
  void write_sites();
  void write_routing(const RoutingTrace& trace);
  void write_clean(const Results& results);
  void write_cells(const Results& results);
  void write_cell_effects(const Results& results);
  void write_plan(const Results& results);
  void write_known_answers(const Results& results);
  void write_root(const Results& results);

  AtomicPath place_;
  const DepthPlan& plan_;
  int64_t sequences_, seq_len_;
  bool weights_;
  Hdf5Writer file_;
};

}  // namespace depthroute
