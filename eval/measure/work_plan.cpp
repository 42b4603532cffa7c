#include "eval/measure/work_plan.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <utility>

#include "configs/base/check.h"

namespace depthroute {
namespace {

/// Returns how long `chunks` would take, in clean passes over a batch. Interleaved chunks cost about the
/// same.
double duration(int64_t batches, int64_t chunks, double comparisons_cost, int ranks) {
  const double rounds = static_cast<double>(div_ceil(batches * chunks, ranks));
  return rounds * (1 + comparisons_cost / static_cast<double>(chunks));
}

/// Makes complete records out of those of chunks, which arrive in order.
class Assembly {
 public:
  Assembly(size_t chunks, const RecordSink& sink) : chunks_(chunks), sink_(sink) {}
  void add(BatchRecord&& record) {
    if (taken_ == 0) {
      whole_ = std::move(record);
    } else {
      whole_.fill_from(std::move(record));
    }
    if (++taken_ < chunks_) return;
    taken_ = 0;
    sink_(std::move(whole_));
  }

 private:
  const size_t chunks_;
  const RecordSink& sink_;
  size_t taken_ = 0;
  BatchRecord whole_;
};

}  // namespace

BatchRange BatchRange::all(int64_t sequences, int64_t micro_batch) {
  return {sequences, micro_batch, 0, div_ceil(sequences, micro_batch)};
}

BatchRange BatchRange::part(int64_t k, int64_t n) const {
  DR_CHECK(k >= 0 && k < n && n <= count);
  const int64_t begin = k * count / n, end = (k + 1) * count / n;
  return {sequences, micro_batch, first + begin, end - begin};
}

SequenceRange BatchRange::at(int64_t index) const {
  DR_CHECK(index >= 0 && index < count);
  const int64_t begin = (first + index) * micro_batch;
  return {begin, std::min(micro_batch, sequences - begin)};
}

SequenceRange BatchRange::span() const {
  const int64_t begin = first * micro_batch;
  return {begin, std::min((first + count) * micro_batch, sequences) - begin};
}

WorkPlan::WorkPlan(const BatchRange& batches, std::span<const Comparison> comparisons,
                   std::span<const double> costs, int ranks)
    : batches_(batches), ranks_(ranks), costs_(costs.begin(), costs.end()) {
  DR_CHECK(comparisons.size() == costs.size() && ranks >= 1);
  const double sum = std::accumulate(costs.begin(), costs.end(), 0.0);
  const int64_t most = std::clamp<int64_t>(static_cast<int64_t>(costs.size()), 1, ranks);
  int64_t best = 1;
  for (int64_t chunks = 2; chunks <= most; ++chunks)
    if (duration(batches.count, chunks, sum, ranks) < duration(batches.count, best, sum, ranks))
      best = chunks;
  chunks_.resize(static_cast<size_t>(best));
  const std::vector<int> order = descending_order(comparisons);
  for (size_t i = 0; i < order.size(); ++i) chunks_[i % chunks_.size()].push_back(order[i]);
}

int64_t WorkPlan::rounds() const {
  return div_ceil(batches_.count * static_cast<int64_t>(chunks_.size()), ranks_);
}

std::optional<WorkPlan::Unit> WorkPlan::unit(int64_t round, int rank) const {
  const int64_t chunks = static_cast<int64_t>(chunks_.size()), index = round * ranks_ + rank;
  if (index >= batches_.count * chunks) return {};
  return Unit{batches_.at(index / chunks), index % chunks};
}

double WorkPlan::total_work() const {
  const double once =
      static_cast<double>(chunks_.size()) + std::accumulate(costs_.begin(), costs_.end(), 0.0);
  return once * static_cast<double>(batches_.span().size);
}

namespace {

/// Reports progress: adds what all ranks have just done.
class WorkCount {
 public:
  WorkCount(const WorkPlan& plan, const World& world, const WorkDone& worked)
      : plan_(plan), ranks_(world.size()), reports_(world.is_rank_0() && worked), worked_(worked) {}

  /// `passes(chunk)`: clean passes over a sequence that each rank with work in `round` has done.
  template <typename Passes>
  void add(int64_t round, const Passes& passes) {
    if (!reports_) return;
    for (int rank = 0; rank < ranks_; ++rank)
      if (const auto unit = plan_.unit(round, rank))
        done_ += passes(plan_.chunks()[unit->chunk]) * static_cast<double>(unit->batch.size);
    worked_(done_, plan_.total_work());
  }

 private:
  const WorkPlan& plan_;
  const int ranks_;
  const bool reports_;
  const WorkDone& worked_;
  double done_ = 0;
};

/// Runs the clean pass of a unit of work. The first chunk of a batch also keeps what belongs to no
/// comparison.
BatchRecord start_record(Evaluator& evaluator, Stream stream, const Measurement& measurement,
                         const WorkPlan::Unit& unit) {
  evaluator.start(stream, measurement.tokens, unit.batch);
  BatchRecord record;
  record.batch = unit.batch;
  record.outcomes.resize(measurement.comparisons.size());
  if (unit.chunk > 0) return record;
  record.clean_nll = evaluator.clean_nll();
  record.routing = measure_routing(stream, evaluator.model(), measurement.all_weights);
  return record;
}

/// In clean passes over a sequence.
std::vector<double> costs_of(std::span<const Comparison> comparisons, const Qwen3& model) {
  const int64_t seq_len = model.options().seq_len;
  const double clean = Evaluator::cost(model.config(), seq_len, 0);
  std::vector<double> costs;
  for (const Comparison& comparison : comparisons)
    costs.push_back(Evaluator::cost(model.config(), seq_len, comparison.first_site) / clean);
  return costs;
}

}  // namespace

void measure(World& world, Evaluator& evaluator, Stream stream, const Measurement& measurement,
             const RecordSink& sink, const WorkDone& worked) {
  const std::span<const Comparison> comparisons = measurement.comparisons;
  const std::vector<double> costs = costs_of(comparisons, evaluator.model());
  const WorkPlan plan(measurement.batches, comparisons, costs, world.size());
  const auto& chunks = plan.chunks();
  Assembly assembly(chunks.size(), sink);
  WorkCount count(plan, world, worked);

  for (int64_t round = 0; round < plan.rounds(); ++round) {
    const auto mine = plan.unit(round, world.rank());
    BatchRecord record;
    if (mine) record = start_record(evaluator, stream, measurement, *mine);
    world.barrier();
    count.add(round, [](const std::vector<int>&) { return 1.0; });
    for (size_t step = 0; step < chunks.front().size(); ++step) {
      if (mine && step < chunks[mine->chunk].size()) {
        const int index = chunks[mine->chunk][step];
        record.outcomes[index] = evaluator.compare(stream, comparisons[index]);
      }
      world.barrier();
      count.add(round, [&](const std::vector<int>& chunk) {
        return step < chunk.size() ? costs[chunk[step]] : 0.0;
      });
    }
    for (std::string& bytes : world.gather(mine ? to_bytes(record) : std::string())) {
      if (!bytes.empty()) assembly.add(record_from_bytes(bytes));
      bytes = {};
    }
  }
}

}  // namespace depthroute
