// Which rank measures what. A unit of work is a batch with one chunk of the comparisons. Units are dealt in
// rounds, unit i * ranks + r to rank r in round i, and rank 0 takes their records in that order. Comparisons
// are cut into chunks only where batches alone would leave ranks without work, because every chunk repeats
// the clean pass.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "data/tokens/token_stream.h"
#include "eval/measure/batch_record.h"
#include "eval/measure/evaluate.h"
#include "kernels/collectives/world.h"

namespace depthroute {

/// Batches [first, first + count) of those an evaluation of `sequences` is cut into. How they are cut does
/// not depend on who measures them.
struct BatchRange {
  int64_t sequences = 0, micro_batch = 1, first = 0, count = 0;

  static BatchRange all(int64_t sequences, int64_t micro_batch);
  /// Returns part k of n; the numbers of batches of parts differ by one at most. 0 <= k < n <= count.
  BatchRange part(int64_t k, int64_t n) const;
  SequenceRange at(int64_t index) const;  // index in [0, count)
  /// Returns the sequences of all of them together.
  SequenceRange span() const;
};

/// Work is counted in clean passes over a sequence.
class WorkPlan {
 public:
  struct Unit {
    SequenceRange batch;
    int64_t chunk = 0;
  };
  /// `costs` of the comparisons, in clean passes. Cuts them into as many chunks as give the shortest time.
  WorkPlan(const BatchRange& batches, std::span<const Comparison> comparisons, std::span<const double> costs,
           int ranks);

  int64_t rounds() const;
  /// Returns what a rank does in a round, if anything.
  std::optional<Unit> unit(int64_t round, int rank) const;
  /// Returns the comparisons of every chunk, by descending first site.
  const std::vector<std::vector<int>>& chunks() const { return chunks_; }
  double total_work() const;

 private:
  BatchRange batches_;
  int ranks_;
  std::vector<double> costs_;
  std::vector<std::vector<int>> chunks_;
};

struct Measurement {
  const TokenStream& tokens;
  BatchRange batches;
  std::span<const Comparison> comparisons;
  bool all_weights = false;
};
using RecordSink = std::function<void(BatchRecord&&)>;
using WorkDone = std::function<void(double done, double total)>;

/// Measures on all ranks; collective. `sink` gets a complete record per batch, in order, and `worked` the
/// work of all ranks; both are called on rank 0 only. Ranks keep in step, comparison by comparison: a rank
/// that fails ends all of them at once, and none waits longer for another than for one forward pass.
void measure(World& world, Evaluator& evaluator, Stream stream, const Measurement& measurement,
             const RecordSink& sink, const WorkDone& worked = {});

}  // namespace depthroute
