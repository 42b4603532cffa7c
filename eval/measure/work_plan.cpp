#include "eval/measure/work_plan.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "configs/base/check.h"

namespace depthroute {

BatchRange BatchRange::all(int64_t sequences, int64_t micro_batch) {
  const int64_t count = div_ceil(sequences, micro_batch);
  return {sequences, count, 0, count};
}

BatchRange BatchRange::part(int64_t k, int64_t n) const {
  DR_CHECK(k >= 0 && k < n && n <= count);
  const int64_t begin = k * count / n, end = (k + 1) * count / n;
  return {sequences, batches, first + begin, end - begin};
}

SequenceRange BatchRange::at(int64_t index) const {
  DR_CHECK(index >= 0 && index < count);
  const int64_t begin = (first + index) * sequences / batches,
                end = (first + index + 1) * sequences / batches;
  return {begin, end - begin};
}

SequenceRange BatchRange::span() const {
  const int64_t begin = first * sequences / batches;
  return {begin, (first + count) * sequences / batches - begin};
}

std::vector<Missing> all_missing(const BatchRange& batches, size_t comparisons) {
  std::vector<int> all(comparisons);
  std::iota(all.begin(), all.end(), 0);
  std::vector<Missing> missing;
  for (int64_t i = 0; i < batches.count; ++i) missing.push_back({batches.number(i), true, all});
  return missing;
}

namespace {

double cost_of(const Unit& unit, std::span<const double> costs) {
  double cost = unit.starts ? 1 : 0;
  for (const int index : unit.comparisons) cost += costs[index];
  return cost;
}

/// Cuts the comparisons of a batch into slices of about equal cost.
void append_units(const Missing& batch, std::span<const Comparison> comparisons,
                  std::span<const double> costs, double largest, std::vector<Unit>& units) {
  std::vector<int> order = batch.comparisons;
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return comparisons[a].first_site > comparisons[b].first_site; });
  double total = 0;
  for (const int index : order) total += costs[index];
  const double slices = std::max(1.0, std::ceil(total / largest));
  Unit unit{batch.batch, batch.clean, {}, true};
  double done = 0, cut = 1;
  for (const int index : order) {
    unit.comparisons.push_back(index);
    done += costs[index];
    if (done < total * cut / slices - 1e-9 || cut >= slices) continue;
    units.push_back(std::move(unit));
    unit = {batch.batch, false, {}, false};
    cut += 1;
  }
  if (unit.clean || !unit.comparisons.empty()) units.push_back(std::move(unit));
}

}  // namespace

std::vector<std::vector<Unit>> plan_units(const std::vector<Missing>& missing,
                                          std::span<const Comparison> comparisons,
                                          std::span<const double> costs, int ranks) {
  DR_CHECK(comparisons.size() == costs.size() && ranks >= 1);
  double total = 0;
  for (const Missing& batch : missing)
    for (const int index : batch.comparisons) total += costs[index];
  // Several units per rank, so that ranks end at about the same time.
  const double largest = ranks == 1 ? kUnitPasses : std::clamp(total / (4.0 * ranks), 1.0, kUnitPasses);
  std::vector<Unit> units;
  for (const Missing& batch : missing) append_units(batch, comparisons, costs, largest, units);

  double work = 0;
  for (const Unit& unit : units) work += cost_of(unit, costs);
  std::vector<std::vector<Unit>> dealt(static_cast<size_t>(ranks));
  double done = 0;
  for (Unit& unit : units) {
    const double cost = cost_of(unit, costs);
    const auto rank = static_cast<size_t>(
        std::clamp<double>(std::floor((done + cost / 2) / work * ranks), 0, static_cast<double>(ranks - 1)));
    if (dealt[rank].empty()) unit.starts = true;
    dealt[rank].push_back(std::move(unit));
    done += cost;
  }
  return dealt;
}

std::vector<double> costs_of(std::span<const Comparison> comparisons, const ModelConfig& model,
                             int64_t seq_len) {
  const double clean = Evaluator::cost(model, seq_len, 0);
  std::vector<double> costs;
  for (const Comparison& comparison : comparisons)
    costs.push_back(Evaluator::cost(model, seq_len, comparison.first_site) / clean *
                    static_cast<double>(comparison.repeats));
  return costs;
}

namespace {

/// The comparisons of a unit that are made between two meetings of the ranks: as many as share a reading of the
/// output head.
std::vector<std::vector<int>> groups_of(const Unit& unit, std::span<const Comparison> comparisons) {
  std::vector<std::vector<int>> groups;
  int64_t passes = kComparedAtOnce;
  for (const int index : unit.comparisons) {
    if (passes >= kComparedAtOnce) {
      groups.emplace_back();
      passes = 0;
    }
    groups.back().push_back(index);
    passes += comparisons[index].repeats;
  }
  return groups;
}

/// Reports progress: adds what all ranks have just done.
class WorkCount {
 public:
  WorkCount(const std::vector<std::vector<Unit>>& dealt, std::span<const Comparison> comparisons,
            std::span<const double> costs, const World& world, const WorkDone& worked)
      : dealt_(dealt),
        comparisons_(comparisons),
        costs_(costs),
        reports_(world.is_rank_0() && worked),
        worked_(worked) {
    for (const auto& units : dealt_)
      for (const Unit& unit : units) total_ += cost_of(unit, costs_);
  }
  /// Step 0 of a unit is its clean pass, step i its i-th group.
  void add(size_t round, size_t step) {
    if (!reports_) return;
    for (const auto& units : dealt_) {
      if (round >= units.size()) continue;
      const Unit& unit = units[round];
      if (step == 0) done_ += unit.starts ? 1 : 0;
      if (step == 0) continue;
      const auto groups = groups_of(unit, comparisons_);
      if (step > groups.size()) continue;
      for (const int index : groups[step - 1]) done_ += costs_[index];
    }
    worked_(done_, total_);
  }

 private:
  const std::vector<std::vector<Unit>>& dealt_;
  const std::span<const Comparison> comparisons_;
  const std::span<const double> costs_;
  const bool reports_;
  const WorkDone& worked_;
  double done_ = 0, total_ = 0;
};

/// Runs the clean pass of a unit, where it needs one.
UnitRecord start_unit(Evaluator& evaluator, Stream stream, const Measurement& measurement, const Unit& unit) {
  UnitRecord record;
  record.batch = unit.batch;
  if (unit.starts)
    evaluator.start(stream, measurement.sequences,
                    measurement.batches.at(unit.batch - measurement.batches.first));
  record.has_clean = unit.clean;
  if (unit.clean) record.clean = evaluator.clean(stream, measurement.clean, &record.weights);
  record.comparisons = unit.comparisons;
  return record;
}

}  // namespace

void measure(World& world, Evaluator& evaluator, Stream stream, const Measurement& measurement,
             const std::vector<Missing>& missing, const UnitSink& sink, const WorkDone& worked) {
  const std::span<const Comparison> comparisons = measurement.comparisons;
  const std::vector<double> costs =
      costs_of(comparisons, evaluator.model().config(), evaluator.model().options().seq_len);
  const auto dealt = plan_units(missing, comparisons, costs, world.size());
  const std::vector<Unit>& mine = dealt[world.rank()];
  WorkCount count(dealt, comparisons, costs, world, worked);
  size_t rounds = 0;
  for (const auto& units : dealt) rounds = std::max(rounds, units.size());

  for (size_t round = 0; round < rounds; ++round) {
    const Unit* const unit = round < mine.size() ? &mine[round] : nullptr;
    size_t steps = 0;
    for (const auto& units : dealt)
      if (round < units.size()) steps = std::max(steps, groups_of(units[round], comparisons).size());
    const auto groups = unit ? groups_of(*unit, comparisons) : std::vector<std::vector<int>>{};
    UnitRecord record;
    if (unit) record = start_unit(evaluator, stream, measurement, *unit);
    world.barrier();
    count.add(round, 0);
    for (size_t step = 0; step < steps; ++step) {
      if (step < groups.size()) {
        std::vector<const Comparison*> group;
        for (const int index : groups[step]) group.push_back(&comparisons[index]);
        for (Outcome& outcome : evaluator.compare(stream, group))
          record.outcomes.push_back(std::move(outcome));
      }
      world.barrier();
      count.add(round, step + 1);
    }
    if (unit) sink(std::move(record));
    world.barrier();
  }
}

}  // namespace depthroute
