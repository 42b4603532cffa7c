#include "eval/analysis/task_outcomes.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "configs/base/check.h"

namespace depthroute {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

constexpr TaskMetric kChoiceMetrics[] = {
    {"acc", "1", "share of documents whose most likely choice is the right one", TaskNumber::choice},
    {"acc_norm", "1", "share of documents whose choice of the largest log-likelihood per character is right",
     TaskNumber::choice_per_character},
    {"acc_bytes", "1", "share of documents whose choice of the largest log-likelihood per byte is right",
     TaskNumber::choice_per_byte},
};
constexpr TaskMetric kContinuationMetrics[] = {
    {"acc", "1", "share of documents whose continuation is what greedy decoding gives", TaskNumber::greedy},
    {"perplexity", "1", "exp of the mean negative log-likelihood of a document's continuation",
     TaskNumber::nll, TaskWeight::document, 1, true},
};
constexpr TaskMetric kRollingMetrics[] = {
    {"word_perplexity", "1", "exp of the negative log-likelihood per word", TaskNumber::nll, TaskWeight::word,
     1, true},
    {"byte_perplexity", "1", "exp of the negative log-likelihood per byte", TaskNumber::nll, TaskWeight::byte,
     1, true},
    {"bits_per_byte", "bits/byte", "negative log-likelihood per byte", TaskNumber::nll, TaskWeight::byte,
     1 / std::numbers::ln2},
};

/// The first of the largest, as numpy's argmax.
int64_t argmax(const std::vector<double>& values) {
  return std::max_element(values.begin(), values.end()) - values.begin();
}

}  // namespace

std::string TaskMetric::change_name() const {
  return perplexity ? std::string(name) + "_ratio" : std::string("delta_") + name;
}

std::string TaskMetric::change_long_name() const {
  return (perplexity ? "ratio to the clean run's: " : "change against the clean run: ") +
         std::string(long_name);
}

double TaskMetric::value(double ratio) const {
  return perplexity ? std::exp(factor * ratio) : factor * ratio;
}

std::span<const TaskMetric> metrics_of(TaskType type) {
  switch (type) {
    case TaskType::loglikelihood:
      return kContinuationMetrics;
    case TaskType::multiple_choice:
      return kChoiceMetrics;
    case TaskType::loglikelihood_rolling:
      break;
  }
  return kRollingMetrics;
}

TaskDocuments::TaskDocuments(const Sequences& sequences) : sequences_(sequences) {
  DR_CHECK(sequences.requests() != nullptr);
  type_ = sequences.requests()->type();
  const std::vector<Segment>& segments = sequences.segments();
  for (size_t i = 0; i < segments.size(); ++i)
    if (i == 0 || segments[i].document != segments[i - 1].document) first_segments_.push_back(i);
  first_segments_.push_back(segments.size());
}

const RequestDocument& TaskDocuments::document(int64_t index) const {
  const Segment& segment = sequences_.segments()[first_segments_[static_cast<size_t>(index)]];
  return sequences_.requests()
      ->documents()[static_cast<size_t>(sequences_.request(segment.sequence).document)];
}

std::vector<int64_t> TaskDocuments::weights(const TaskMetric& metric) const {
  std::vector<int64_t> weights;
  for (int64_t i = 0; i < size(); ++i)
    weights.push_back(metric.weight == TaskWeight::word   ? document(i).words
                      : metric.weight == TaskWeight::byte ? document(i).bytes
                                                          : 1);
  return weights;
}

double TaskDocuments::number(const TaskMetric& metric, size_t index, std::span<const double> nll,
                             std::span<const double> hits) const {
  const size_t begin = first_segments_[index], end = first_segments_[index + 1];
  double sum = 0;
  for (size_t i = begin; i < end; ++i) sum += nll[i];
  if (metric.number == TaskNumber::nll) return sum;
  if (!std::isfinite(sum)) return kNan;
  if (metric.number == TaskNumber::greedy)
    return hits[begin] == static_cast<double>(sequences_.segments()[begin].tokens) ? 1 : 0;
  std::vector<double> likelihoods;
  for (size_t i = begin; i < end; ++i) {
    const Request& request = sequences_.request(sequences_.segments()[i].sequence);
    const int64_t length = metric.number == TaskNumber::choice_per_character ? request.characters
                           : metric.number == TaskNumber::choice_per_byte    ? request.bytes
                                                                             : 1;
    likelihoods.push_back(-nll[i] / static_cast<double>(length));
  }
  return argmax(likelihoods) == document(static_cast<int64_t>(index)).gold ? 1 : 0;
}

std::vector<double> TaskDocuments::numbers(const TaskMetric& metric, std::span<const double> nll,
                                           std::span<const double> hits) const {
  DR_CHECK(nll.size() == sequences_.segments().size() && hits.size() == nll.size());
  std::vector<double> numbers;
  for (size_t i = 0; i + 1 < first_segments_.size(); ++i) numbers.push_back(number(metric, i, nll, hits));
  return numbers;
}

std::vector<double> TaskDocuments::numbers(const TaskMetric& metric, std::span<const double> clean_nll,
                                           std::span<const double> clean_hits, const Outcome& outcome) const {
  const size_t segments = clean_nll.size();
  // [segment, donor], or [segment] where there is a single pass.
  const bool donors = !outcome[CellColumn::segment_donor_delta_nll].empty();
  const std::vector<double>& deltas =
      outcome[donors ? CellColumn::segment_donor_delta_nll : CellColumn::delta_nll];
  const std::vector<double>& changes =
      outcome[donors ? CellColumn::segment_donor_hit_change : CellColumn::hit_change];
  const size_t passes = deltas.size() / segments;
  DR_CHECK(deltas.size() == passes * segments && changes.size() == deltas.size());
  std::vector<double> all(static_cast<size_t>(size()), 0.0), nll(segments), hits(segments);
  for (size_t pass = 0; pass < passes; ++pass) {
    for (size_t i = 0; i < segments; ++i) {
      nll[i] = clean_nll[i] + deltas[i * passes + pass];
      hits[i] = clean_hits[i] + changes[i * passes + pass];
    }
    const std::vector<double> of_pass = numbers(metric, nll, hits);
    for (size_t i = 0; i < all.size(); ++i) all[i] += of_pass[i];
  }
  for (double& number : all) number /= static_cast<double>(passes);
  return all;
}

}  // namespace depthroute
