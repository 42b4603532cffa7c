#include "eval/measure/evaluate.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "configs/base/check.h"
#include "kernels/ops/ops.h"

namespace depthroute {
namespace {

/// max(), but NaN if either is.
double largest(double a, double b) {
  if (std::isnan(a) || std::isnan(b)) return std::numeric_limits<double>::quiet_NaN();
  return std::max(a, b);
}

}  // namespace

void Outcome::append(const Outcome& next) {
  for (const OutcomeSum& sum : kOutcomeSums) {
    const std::vector<double>& more = next.*sum.values;
    (this->*sum.values).insert((this->*sum.values).end(), more.begin(), more.end());
  }
  largest_change = largest(largest_change, next.largest_change);
}

Evaluator::Evaluator(Qwen3& model, Arena& arena, const ContentNeeds& needs, const ResampleConfig& resample)
    : model_(model), contents_(model, needs, resample, arena) {
  const int64_t b = model.options().micro_batch, t = model.options().seq_len, n = b * t;
  const ModelConfig& config = model.config();
  arena.plan(Purpose::batch, &tokens_, {b, t}, DType::i32);
  arena.plan(Purpose::batch, &targets_, {n}, DType::i32);
  const DType act = model.options().activations;
  arena.plan(Purpose::activations, &clean_hidden_, {n, config.hidden_size}, act);
  arena.plan(Purpose::batch, &nll_, {n});
  arena.plan(Purpose::batch, &kl_, {n});
  arena.plan(Purpose::batch, &flipped_, {n}, DType::i32);
  arena.plan(Purpose::batch, &hit_, {n}, DType::i32);
  arena.plan(Purpose::workspace, &workspace_,
             {ops::cross_entropy_compare_workspace(arena.device(), act, n, config.vocab_size)});
}

double Evaluator::cost(const ModelConfig& config, int64_t seq_len, int first_site) {
  ModelConfig headless = config;
  headless.vocab_size = 0;
  const double whole = Qwen3::train_flops_per_token(config, seq_len);
  const double layers = Qwen3::train_flops_per_token(headless, seq_len);
  const double share = 1.0 - static_cast<double>(first_site) / static_cast<double>(config.num_sublayers());
  return (layers * std::max(share, 0.0) + 2 * (whole - layers)) / whole;  // clean and ablated head both
}

void Evaluator::load(Stream stream, const TokenStream& tokens) {
  const int64_t t = model_.options().seq_len;
  std::vector<int32_t> window(static_cast<size_t>(t + 1));
  host_tokens_.resize(static_cast<size_t>(rows()));
  host_targets_.resize(host_tokens_.size());
  for (int64_t i = 0; i < batch_.size; ++i) {
    tokens.read((batch_.first + i) * t, window);
    std::copy(window.begin(), window.end() - 1, host_tokens_.begin() + i * t);
    std::copy(window.begin() + 1, window.end(), host_targets_.begin() + i * t);
  }
  ops::copy(stream, host_tensor(host_tokens_.data(), {batch_.size, t}), tokens_.slice(0, batch_.size));
  ops::copy(stream, host_tensor(host_targets_.data(), {rows()}), targets_.slice(0, rows()));
}

void Evaluator::compare_heads(Stream stream) {
  const int64_t n = rows();
  ops::cross_entropy_compare(stream, clean_hidden_.slice(0, n), model_.final_hidden(), model_.head(),
                             targets_.slice(0, n), nll_.slice(0, n), kl_.slice(0, n), flipped_.slice(0, n),
                             hit_.slice(0, n), workspace_);
  host_nll_.resize(static_cast<size_t>(n));
  host_kl_.resize(host_nll_.size());
  host_flipped_.resize(host_nll_.size());
  ops::copy(stream, nll_.slice(0, n), host_tensor(host_nll_.data(), {n}));
  ops::copy(stream, kl_.slice(0, n), host_tensor(host_kl_.data(), {n}));
  ops::copy(stream, flipped_.slice(0, n), host_tensor(host_flipped_.data(), {n}));
  synchronize(stream);
}

void Evaluator::start(Stream stream, const TokenStream& tokens, const SequenceRange& batch) {
  DR_CHECK(batch.size >= 1 && batch.size <= model_.options().micro_batch);
  DR_CHECK(batch.first >= 0 && batch.first + batch.size <= tokens.num_samples(model_.options().seq_len));
  batch_ = batch;
  load(stream, tokens);
  model_.forward(stream, tokens_.slice(0, batch.size));
  std::vector<int64_t> numbers(static_cast<size_t>(batch.size));
  std::iota(numbers.begin(), numbers.end(), batch.first);
  std::vector<BatchSequence> sequences;
  for (const int64_t& number : numbers)  // every sequence is a document of its own
    sequences.push_back({number, model_.options().seq_len, {&number, 1}, {}});
  contents_.snapshot(stream, sequences);
  ops::copy(stream, model_.final_hidden(), clean_hidden_.slice(0, rows()));
  // The clean loss comes from the op the cells use, so that an unchanged state gives exactly 0.
  compare_heads(stream);
  clean_nll_ = host_nll_;
  valid_sites_ = static_cast<int>(model_.plan().sites.size());
}

Outcome Evaluator::compare(Stream stream, const Comparison& comparison) {
  DR_CHECK(comparison.first_site <= valid_sites_);
  valid_sites_ = comparison.first_site;
  const auto interventions = contents_.resolve(stream, comparison.site_changes, 0);
  model_.forward(stream, tokens_.slice(0, batch_.size), interventions, comparison.first_site);
  compare_heads(stream);

  const int64_t t = model_.options().seq_len;
  Outcome outcome;
  for (int64_t i = 0; i < batch_.size; ++i) {
    double delta_sum = 0, kl_sum = 0, flips = 0;
    for (int64_t row = i * t; row < (i + 1) * t; ++row) {
      const double delta = static_cast<double>(host_nll_[row]) - static_cast<double>(clean_nll_[row]);
      const double kl = host_kl_[row];
      delta_sum += delta;
      kl_sum += kl;
      flips += host_flipped_[row];
      outcome.largest_change = largest(outcome.largest_change, largest(std::abs(delta), std::abs(kl)));
    }
    outcome.delta_nll.push_back(delta_sum);
    outcome.kl.push_back(kl_sum);
    outcome.flips.push_back(flips);
  }
  return outcome;
}

std::vector<int> descending_order(std::span<const Comparison> comparisons) {
  std::vector<int> order(comparisons.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return comparisons[a].first_site > comparisons[b].first_site; });
  return order;
}

}  // namespace depthroute
