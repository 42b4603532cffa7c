#include "eval/measure/work_plan.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <utility>

#include "configs/base/check.h"

namespace depthroute {
namespace {

/// Seconds, in clean passes of a batch, that `chunks` would take. Chunks of interleaved comparisons cost
/// about the same.
double duration(int64_t batches, int64_t chunks, double comparisons_cost, int processes) {
  const double rounds = static_cast<double>(div_ceil(batches * chunks, processes));
  return rounds * (1 + comparisons_cost / static_cast<double>(chunks));
}

/// Complete records out of those of chunks, which arrive in order.
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
                   std::span<const double> costs, int processes)
    : batches_(batches), processes_(processes), costs_(costs.begin(), costs.end()) {
  DR_CHECK(comparisons.size() == costs.size() && processes >= 1);
  const double sum = std::accumulate(costs.begin(), costs.end(), 0.0);
  const int64_t most = std::clamp<int64_t>(static_cast<int64_t>(costs.size()), 1, processes);
  int64_t best = 1;
  for (int64_t chunks = 2; chunks <= most; ++chunks)
    if (duration(batches.count, chunks, sum, processes) < duration(batches.count, best, sum, processes))
      best = chunks;
  chunks_.resize(static_cast<size_t>(best));
  const std::vector<int> order = descending_order(comparisons);
  for (size_t i = 0; i < order.size(); ++i) chunks_[i % chunks_.size()].push_back(order[i]);
}

int64_t WorkPlan::rounds() const {
  return div_ceil(batches_.count * static_cast<int64_t>(chunks_.size()), processes_);
}

std::optional<WorkPlan::Unit> WorkPlan::unit(int64_t round, int process) const {
  const int64_t chunks = static_cast<int64_t>(chunks_.size()), index = round * processes_ + process;
  if (index >= batches_.count * chunks) return {};
  return Unit{batches_.at(index / chunks), index % chunks};
}

double WorkPlan::total_work() const {
  const double once =
      static_cast<double>(chunks_.size()) + std::accumulate(costs_.begin(), costs_.end(), 0.0);
  return once * static_cast<double>(batches_.span().size);
}

void measure(World& world, Evaluator& evaluator, Stream stream, const Measurement& measurement,
             const RecordSink& sink, const WorkDone& worked) {
  const std::span<const Comparison> comparisons = measurement.comparisons;
  const Qwen3& model = evaluator.model();
  std::vector<double> costs;
  for (const Comparison& comparison : comparisons)
    costs.push_back(Evaluator::cost(model.config(), model.options().seq_len, comparison.first_site) /
                    Evaluator::cost(model.config(), model.options().seq_len, 0));
  const WorkPlan plan(measurement.batches, comparisons, costs, world.size());
  const auto& chunks = plan.chunks();
  Assembly assembly(chunks.size(), sink);
  double done = 0;
  const double total = plan.total_work();

  for (int64_t round = 0; round < plan.rounds(); ++round) {
    const auto mine = plan.unit(round, world.rank());
    /// Adds what all processes have just done: `cost(chunk)` passes each.
    const auto report = [&](const auto& cost) {
      if (!world.is_rank_0() || !worked) return;
      for (int process = 0; process < world.size(); ++process)
        if (const auto unit = plan.unit(round, process))
          done += cost(chunks[unit->chunk]) * static_cast<double>(unit->batch.size);
      worked(done, total);
    };
    BatchRecord record;
    world.together([&] {
      if (!mine) return;
      evaluator.start(stream, measurement.tokens, mine->batch);
      record.batch = mine->batch;
      record.outcomes.resize(comparisons.size());
      if (mine->chunk > 0) return;  // the batch's first chunk has what belongs to no comparison
      record.clean_nll = evaluator.clean_nll();
      record.routing = measure_routing(stream, model, measurement.all_weights);
    });
    report([](const std::vector<int>&) { return 1.0; });
    for (size_t step = 0; step < chunks.front().size(); ++step) {
      world.together([&] {
        if (!mine || step >= chunks[mine->chunk].size()) return;
        const int index = chunks[mine->chunk][step];
        record.outcomes[index] = evaluator.compare(stream, comparisons[index]);
      });
      report([&](const std::vector<int>& chunk) { return step < chunk.size() ? costs[chunk[step]] : 0.0; });
    }
    std::vector<std::string> records = world.gather(mine ? to_bytes(record) : std::string());
    world.together([&] {
      for (std::string& bytes : records) {
        if (!bytes.empty()) assembly.add(record_from_bytes(bytes));
        bytes = {};
      }
    });
  }
}

}  // namespace depthroute
