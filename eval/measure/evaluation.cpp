#include "eval/measure/evaluation.h"

#include <new>

#include "configs/base/check.h"
#include "configs/base/error.h"

namespace depthroute {
namespace {

/// Values of a column that grow with the evaluation and that every comparison has.
int64_t appended(const Lengths& lengths, const Column& column) {
  const bool of_some = column.has(Axis::token) || column.has(Axis::donor);
  return column.merge == Merge::append && !of_some ? lengths.size(column) : 0;
}

template <typename Which>
int64_t appended(const Lengths& lengths) {
  int64_t size = 0;
  for (const Column& column : columns<Which>()) size += appended(lengths, column);
  return size;
}

template <typename Which>
void reserve_columns(Columns<Which>& all, const Lengths& lengths) {
  for (size_t i = 0; i < all.values.size(); ++i)
    all.values[i].reserve(static_cast<size_t>(appended(lengths, columns<Which>()[i])));
}

}  // namespace

Lengths lengths_of(const DepthPlan& plan, const Sequences& sequences, const SequenceRange& range,
                   int64_t donors) {
  return {static_cast<int64_t>(sequences.segments_of(range.first, range.size).size()),
          range.size,
          sequences.seq_len(),
          static_cast<int64_t>(plan.sites.size()),
          plan.max_sources(),
          donors};
}

int64_t Evaluation::bytes(const Lengths& lengths, int64_t comparisons) {
  constexpr int64_t kSize = sizeof(double);
  const int64_t per_token = 2 * lengths.sequences * lengths.tokens;  // nll and hit
  return kSize * (appended<CleanColumn>(lengths) + per_token + comparisons * appended<CellColumn>(lengths));
}

void Evaluation::reserve(const Lengths& lengths, size_t comparisons) {
  outcomes.resize(comparisons);
  try {
    reserve_columns(clean, lengths);
    const size_t tokens = static_cast<size_t>(lengths.sequences * lengths.tokens);
    clean[CleanColumn::nll].reserve(tokens);
    clean[CleanColumn::hit].reserve(tokens);
    for (Outcome& outcome : outcomes) reserve_columns(outcome, lengths);
  } catch (const std::bad_alloc&) {
    throw SystemError(
        "data.sequences: the results of {} sequences need {} MiB of memory, more than there is: set fewer",
        lengths.sequences, bytes(lengths, static_cast<int64_t>(comparisons)) >> 20);
  }
}

void Evaluation::append(int64_t size, const CleanValues& clean_of_batch,
                        const std::vector<Outcome>& outcomes_of_batch) {
  DR_CHECK(outcomes.size() == outcomes_of_batch.size());
  clean.add(clean_of_batch);
  for (size_t i = 0; i < outcomes.size(); ++i) outcomes[i].add(outcomes_of_batch[i]);
  sequences += size;
}

}  // namespace depthroute
