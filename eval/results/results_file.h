// The results file (eval/SPEC.md §6): one HDF5 file, written beside its final place and renamed, so that it
// is whole or absent. Equal runs give equal bytes except for the root attribute `created`.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/atomic_path.h"
#include "eval/analysis/findings.h"
#include "eval/results/hdf5.h"

namespace depthroute {

inline constexpr int64_t kResultsSchemaVersion = 1;

/// Throws InputError if `path` cannot become a results file: it names a folder or something that is no
/// results file of this version, or its folder cannot be written or made. Creates nothing, and never blocks.
void check_output_path(const std::string& path);
/// The same, without looking at what is at `path` already.
void check_output_place(const std::string& path);

class ResultsFile {
 public:
  /// Creates the temporary file; its folder must exist. Without commit() nothing of it remains. `weights`:
  /// with room for every single weight.
  ResultsFile(const std::string& path, const DepthPlan& plan, int64_t sequences, int64_t seq_len,
              bool weights);
  ResultsFile(const ResultsFile&) = delete;
  ResultsFile& operator=(const ResultsFile&) = delete;

  /// Writes a batch's weights, if the file has room for them.
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
