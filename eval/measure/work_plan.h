// Which rank measures what. A unit of work is a batch with a slice of its comparisons, and becomes one file
// (eval/results/unit_store.h). Slices follow the descending order of first sites, so that a rank that goes on
// with the next slice of the same batch needs no clean pass again.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "eval/measure/evaluate.h"
#include "eval/measure/evaluation.h"
#include "kernels/collectives/world.h"

namespace depthroute {

/// Batches [first, first + count) of those an evaluation of `sequences` is cut into, as evenly as can be. How
/// they are cut does not depend on who measures them.
struct BatchRange {
  int64_t sequences = 0, batches = 0, first = 0, count = 0;

  static BatchRange all(int64_t sequences, int64_t micro_batch);
  /// Returns part k of n; the numbers of batches of parts differ by one at most. 0 <= k < n <= count.
  BatchRange part(int64_t k, int64_t n) const;
  SequenceRange at(int64_t index) const;  // index in [0, count)
  int64_t number(int64_t index) const { return first + index; }
  /// Returns the sequences of all of them together.
  SequenceRange span() const;
};

/// What is still to be measured on a batch.
struct Missing {
  int64_t batch = 0;  // number
  bool clean = false;
  std::vector<int> comparisons;
};

struct Unit {
  int64_t batch = 0;  // number
  bool clean = false;
  std::vector<int> comparisons;  // by descending first site
  bool starts = true;            // with a clean pass; else it goes on where the unit before it ended
};

/// Units of at most so many clean passes' work, so that a killed run loses little.
inline constexpr double kUnitPasses = 16;

/// Cuts what is missing into units and deals them to ranks: [rank][place], consecutive units to one rank, and
/// about equal work to all. `costs` of the comparisons, in clean passes over a batch.
std::vector<std::vector<Unit>> plan_units(const std::vector<Missing>& missing,
                                          std::span<const Comparison> comparisons,
                                          std::span<const double> costs, int ranks);

struct Measurement {
  const Sequences& sequences;
  BatchRange batches;
  std::span<const Comparison> comparisons;
  CleanOptions clean;
};
/// Takes what a unit has measured, on the rank that measured it.
using UnitSink = std::function<void(UnitRecord&&)>;
/// On rank 0: work of all ranks so far and in all, in clean passes.
using WorkDone = std::function<void(double done, double total)>;

/// Measures on all ranks what `missing` lists, the same on every rank; collective. Ranks keep in step: a rank
/// that fails ends all of them at once, and none waits longer for another than for the passes that share an
/// output head (kComparedAtOnce, or one cell's if it takes more).
void measure(World& world, Evaluator& evaluator, Stream stream, const Measurement& measurement,
             const std::vector<Missing>& missing, const UnitSink& sink, const WorkDone& worked = {});

/// Everything of `batches`: nothing has been measured yet.
std::vector<Missing> all_missing(const BatchRange& batches, size_t comparisons);

/// Cost of each comparison in clean passes.
std::vector<double> costs_of(std::span<const Comparison> comparisons, const ModelConfig& model,
                             int64_t seq_len);

}  // namespace depthroute
