// The folder of unit files beside an output, <output>.units/<measurement hash>/: what has been measured already,
// by whichever job, rank or part of an array. Units are found by what they hold (batch, hash of the cell), so
// adding a cell measures that cell, and a killed run goes on where it was.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "eval/measure/work_plan.h"
#include "eval/results/unit_file.h"

namespace depthroute {

/// Part `index` of `count`, counted from 0 like the tasks of Slurm's `--array=0-15`.
struct PartNumber {
  int64_t index = 0, count = 1;
};
/// <output>.units
std::string units_folder(const std::string& output);
/// A name in that folder for the lock of a part.
std::string part_place(const std::string& output, const PartNumber& number);

/// What an evaluation consists of, as far as units are concerned; views that must outlive the store.
struct UnitLayout {
  const DepthPlan& plan;
  const Sequences& sequences;
  BatchRange batches;  // all of the evaluation
  std::span<const Comparison> comparisons;
  std::string clean_key;  // changes with what is measured of the clean run
  int64_t donors = 0;
  Lengths lengths(int64_t batch) const;
};

class UnitStore {
 public:
  UnitStore(const std::string& output, const std::string& measurement_hash, UnitLayout layout);

  const std::string& folder() const { return folder_; }
  /// Looks at every unit there is. A damaged one is named on stderr and counts as not measured, or is refused
  /// with a DataError that says what to do; one that cannot be read (permissions, a failing disk) may be whole:
  /// AccessError.
  enum class Damaged : uint8_t { measure_again, refuse };
  void scan(Damaged damaged = Damaged::measure_again);
  /// What no unit holds of `batches`, in their order.
  std::vector<Missing> missing(const BatchRange& batches) const;
  bool empty() const { return found_.empty(); }
  /// Writes what a unit measured. Any rank may; the folder must exist (make_folder()).
  void write(const UnitRecord& record, const Provenance& from) const;
  void make_folder() const;
  /// Adds to `provenance` what the units there are of `batches` know. DataError if they disagree.
  void add_to(Provenance& provenance, const BatchRange& batches) const;
  /// Reads a batch that nothing is missing of, with an outcome per comparison.
  UnitRecord read(int64_t batch) const;
  /// Removes what killed writers left. Only when nobody else writes here.
  void remove_leftovers() const;

 private:
  struct Place {
    std::string path;
    size_t row;
  };
  /// What there is of a batch: where its clean run is, and each comparison by hash.
  struct Batch {
    std::string clean;  // path, or ""
    std::map<std::string, Place> comparisons;
  };
  std::string name_of(const UnitHeader& header) const;
  const Batch* find(int64_t batch) const;
  void add(const UnitReader& unit);

  std::string folder_, measurement_hash_;
  UnitLayout layout_;
  std::map<int64_t, Batch> found_;
};

}  // namespace depthroute
