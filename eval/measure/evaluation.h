// The measurements of all batches, put together in the order of batches.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "eval/measure/columns.h"
#include "eval/measure/evaluate.h"
#include "eval/sequences/sequences.h"

namespace depthroute {

/// What a unit of work measured: some comparisons on one batch, and what belongs to the clean run where the
/// unit was asked for it.
struct UnitRecord {
  int64_t batch = 0;  // number of the batch in the evaluation
  bool has_clean = false;
  CleanValues clean;
  std::vector<uint16_t> weights;  // [site, sequence, token, source], where every weight is stored
  std::vector<int> comparisons;   // indices
  std::vector<Outcome> outcomes;  // one for each of them
};

/// The clean run and every comparison over all sequences.
struct Evaluation {
  int64_t sequences = 0;  // so far
  CleanValues clean;      // without the moments, which RoutingTrace has
  std::vector<Outcome> outcomes;

  /// Takes the memory for all columns. SystemError naming data.sequences if there is too little.
  void reserve(const Lengths& lengths, size_t comparisons);
  /// Bytes that reserve() takes.
  static int64_t bytes(const Lengths& lengths, int64_t comparisons);
  /// Adds the next batch of `size` sequences. `outcomes_of_batch` has one outcome per comparison.
  void append(int64_t size, const CleanValues& clean_of_batch, const std::vector<Outcome>& outcomes_of_batch);
};

/// Lengths of the axes of `sequences` (all, or a batch of them) for a plan.
Lengths lengths_of(const DepthPlan& plan, const Sequences& sequences, const SequenceRange& range,
                   int64_t donors);

}  // namespace depthroute
