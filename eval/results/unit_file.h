// Unit files (eval/SPEC.md §8): what one unit of work measured, whole or absent. HDF5, readable like the
// results: /axis has the scales, /clean what belongs to the clean run, /cell a row per comparison, named by
// the hash of what it does.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "eval/analysis/findings.h"
#include "eval/measure/evaluation.h"
#include "eval/results/hdf5.h"

namespace depthroute {

inline constexpr int64_t kUnitSchemaVersion = 3;

/// Returns 0, 1, ... n - 1, or the n numbers from `first` on.
std::vector<int64_t> counting(int64_t n, int64_t first = 0);

/// What a unit says about itself beside its numbers.
struct UnitHeader {
  std::string measurement_hash;
  int64_t batch = 0;
  SequenceRange sequences;
  int64_t first_segment = 0;
  std::string clean_key;  // of what belongs to the clean run; "" if the unit has nothing of it
  std::vector<std::string> hashes, names;  // of its comparisons
};

/// Writes `path` (written beside, sealed, fsynced, renamed); its folder must exist.
void write_unit(const std::string& path, const UnitHeader& header, const UnitRecord& record,
                const DepthPlan& plan, const Lengths& lengths, const Provenance& from);

class UnitReader {
 public:
  /// Checks the seal first. DataError if `path` is damaged or no unit of this version.
  explicit UnitReader(const std::string& path);
  const std::string& path() const { return path_; }
  const UnitHeader& header() const { return header_; }
  /// Adds what only units know: parameter checksums, devices, precision. DataError if they disagree.
  void add_to(Provenance& provenance) const;
  std::string precision() const { return file_.string_attribute("/", "precision"); }
  /// The columns of the clean run; `weights`, if not null, gets every weight. DataError if any is missing or has
  /// another shape.
  CleanValues clean(const Lengths& lengths, std::vector<uint16_t>* weights) const;
  /// One outcome per comparison of the unit.
  std::vector<Outcome> outcomes(const Lengths& lengths) const;

 private:
  std::vector<double> values(const std::string& path, const Lengths& lengths, const Column& column,
                             int64_t rows) const;
  std::string path_;
  Hdf5Reader file_;
  UnitHeader header_;
};

}  // namespace depthroute
