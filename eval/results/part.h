// Parts of an evaluation (eval/SPEC.md §7): what each task of a job array measures, and what `--merge` makes
// the results file of. A part is an HDF5 file <output>.parts/part_00003_of_00016.h5, readable like the
// results: /axis has the scales all batches share, /batch_00012 one batch's record. It is there whole or not
// at all.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "data/atomic_path.h"
#include "eval/analysis/findings.h"
#include "eval/measure/work_plan.h"
#include "eval/results/hdf5.h"

namespace depthroute {

inline constexpr int64_t kPartSchemaVersion = 1;

// Names in a batch's group, beside those of kOutcomeSums and kMomentFields.
inline constexpr const char *kCleanNll = "clean_nll", *kLargestChange = "largest_change",
                            *kEntropy = "entropy_sum", *kWeights = "weights";
/// Returns "/batch_00012/"; batches are numbered through the whole evaluation.
std::string batch_group(int64_t index);

/// Part `index` of `count`, counted from 0 like the tasks of Slurm's `--array=0-15`.
struct PartNumber {
  int64_t index = 0, count = 1;
};
std::string parts_folder(const std::string& output);
std::string part_path(const std::string& output, const PartNumber& number);

/// What all parts of an evaluation share, and the batches of this one.
struct PartLayout {
  const DepthPlan& plan;
  BatchRange batches;
  int64_t seq_len = 0;
  std::vector<std::string> comparisons;  // names
  bool all_weights = false;
};

class PartWriter {
 public:
  PartWriter(const std::string& path, PartLayout layout);
  /// Writes the next batch.
  void write(const BatchRecord& record);
  /// Closes, fsyncs, renames. `known_answers_passed`: on the sequences of this part.
  void commit(const PartNumber& number, const Provenance& provenance, bool known_answers_passed);

 private:
  AtomicPath place_;
  PartLayout layout_;
  Hdf5Writer file_;
};

class PartReader {
 public:
  /// Checks the seal first. DataError if `path` is damaged or no part of this version.
  explicit PartReader(const std::string& path);

  const std::string& path() const { return path_; }
  /// Returns what differs from `here`, as in "with another configuration (config_hash 12ab, here 34cd)"; ""
  /// if the part was measured from the same configuration, checkpoint and data by the same program.
  std::string difference(const Provenance& here) const;
  /// Adds what only the part knows: parameter checksums, devices, precision.
  void add_to(Provenance& provenance) const;
  bool known_answers_passed() const;
  /// Hands every batch to `sink`, in order. DataError if one is missing, damaged or of another shape.
  void read(const PartLayout& layout, const RecordSink& sink) const;

 private:
  BatchRecord read_batch(const PartLayout& layout, int64_t index) const;
  std::string path_;
  Hdf5Reader file_;
};

}  // namespace depthroute
