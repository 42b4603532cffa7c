// The results file (eval/SPEC.md §7): one HDF5 file, written beside its final place and renamed, so that it
// is whole or absent. Equal runs give equal bytes except for the root attribute `created`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "configs/eval_config.h"
#include "data/atomic_path.h"
#include "eval/analysis/findings.h"
#include "eval/results/hdf5.h"

namespace depthroute {

inline constexpr int64_t kResultsSchemaVersion = 2;

/// Throws InputError if `path` cannot become a results file: it names a folder or something that is no
/// results file of this version, or its folder cannot be written or made. Creates nothing, and never blocks.
void check_output_path(const std::string& path);
/// The same, without looking at what is at `path` already.
void check_output_place(const std::string& path);

/// What a results file says it was measured from.
struct StoredMeasurement {
  std::string hash, text;
};
/// Nothing if there is no file.
std::optional<StoredMeasurement> stored_measurement(const std::string& path);
/// "data.seq_len: 256 there, 512 here": the first of the "key: value" lines that differ.
std::string first_difference(const std::string& there, const std::string& here);

class ResultsFile {
 public:
  /// Creates the temporary file; its folder must exist. Without commit() nothing of it remains. `weights`:
  /// with room for every single weight. `plan` and `sequences` must outlive it.
  ResultsFile(const std::string& path, const DepthPlan& plan, const Sequences& sequences, bool weights);
  ResultsFile(const ResultsFile&) = delete;
  ResultsFile& operator=(const ResultsFile&) = delete;

  /// Writes the weights of a batch, if the file has room for them.
  void write_weights(const SequenceRange& batch, const std::vector<uint16_t>& weights);
  void write(const Results& results, const EvalConfig& config);
  /// Closes, fsyncs, renames.
  void commit();

 private:
  // results_groups.cpp
  void write_sites(const std::vector<double>& recency_bias);
  void write_segments(const EvalConfig& config);
  void write_routing(const Results& results);
  void write_clean(const Results& results);
  void write_known_answers(const Results& results);
  // task_group.cpp
  void write_task(const Results& results);
  void write_task_documents(const TaskDocuments& task);
  void write_requests();
  // cell_groups.cpp
  void write_cells(const Results& results);
  void write_cell_effects(const Results& results);
  void write_cell_segments(const Results& results);
  void write_cell_routing(const Results& results);
  void write_token_effects(const Results& results);
  void write_grid(const Results& results);
  void write_plan(const Results& results);
  void write_claims(const EvalConfig& config);

  void write_root(const Results& results, const EvalConfig& config);

  AtomicPath place_;
  const DepthPlan& plan_;
  const Sequences& sequences_;
  bool weights_;
  double level_ = 0.95;  // of intervals
  Hdf5Writer file_;
};

}  // namespace depthroute
