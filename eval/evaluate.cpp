#include "eval/evaluate.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "kernels/ops.h"

namespace depthroute {
namespace {

/// max() that keeps a NaN once it is there.
double largest(double a, double b) {
  if (std::isnan(a) || std::isnan(b)) return std::numeric_limits<double>::quiet_NaN();
  return std::max(a, b);
}

}  // namespace

Evaluator::Evaluator(Qwen3& model, Arena& arena) : model_(model) {
  const int64_t b = model.options().micro_batch, t = model.options().seq_len, n = b * t;
  const ModelConfig& config = model.config();
  arena.plan(Purpose::batch, &tokens_, {b, t}, DType::i32);
  arena.plan(Purpose::batch, &targets_, {n}, DType::i32);
  const DType act = model.options().activations;
  arena.plan(Purpose::activations, &clean_hidden_, {n, config.hidden_size}, act);
  arena.plan(Purpose::batch, &nll_, {n});
  arena.plan(Purpose::batch, &kl_, {n});
  arena.plan(Purpose::batch, &flipped_, {n}, DType::i32);
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

void Evaluator::load(Stream stream, const TokenStream& tokens, const Batch& batch) {
  const int64_t t = model_.options().seq_len;
  std::vector<int32_t> window(static_cast<size_t>(t + 1));
  host_tokens_.resize(static_cast<size_t>(batch.size * t));
  host_targets_.resize(host_tokens_.size());
  for (int64_t i = 0; i < batch.size; ++i) {
    tokens.read((batch.first + i) * t, window);
    std::copy(window.begin(), window.end() - 1, host_tokens_.begin() + i * t);
    std::copy(window.begin() + 1, window.end(), host_targets_.begin() + i * t);
  }
  ops::copy(stream, host_tensor(host_tokens_.data(), {batch.size, t}), tokens_.slice(0, batch.size));
  ops::copy(stream, host_tensor(host_targets_.data(), {batch.size * t}), targets_.slice(0, batch.size * t));
}

void Evaluator::compare(Stream stream, int64_t rows) {
  ops::cross_entropy_compare(stream, clean_hidden_.slice(0, rows), model_.final_hidden(), model_.head(),
                             targets_.slice(0, rows), nll_.slice(0, rows), kl_.slice(0, rows),
                             flipped_.slice(0, rows), workspace_);
  host_nll_.resize(static_cast<size_t>(rows));
  host_kl_.resize(host_nll_.size());
  host_flipped_.resize(host_nll_.size());
  ops::copy(stream, nll_.slice(0, rows), host_tensor(host_nll_.data(), {rows}));
  ops::copy(stream, kl_.slice(0, rows), host_tensor(host_kl_.data(), {rows}));
  ops::copy(stream, flipped_.slice(0, rows), host_tensor(host_flipped_.data(), {rows}));
  synchronize(stream);
}

void Evaluator::add_outcome(const Batch& batch, const Evaluation& evaluation, Outcome& outcome) const {
  const int64_t t = evaluation.seq_len;
  for (int64_t i = 0; i < batch.size; ++i) {
    double delta_sum = 0, kl_sum = 0, flips = 0;
    for (int64_t token = 0; token < t; ++token) {
      const int64_t row = i * t + token;
      const double clean = evaluation.clean_nll[static_cast<size_t>((batch.first + i) * t + token)];
      const double delta = static_cast<double>(host_nll_[row]) - clean;
      delta_sum += delta;
      kl_sum += host_kl_[row];
      flips += host_flipped_[row];
      outcome.largest_change = largest(outcome.largest_change, std::abs(delta));
      outcome.largest_change = largest(outcome.largest_change, std::abs(static_cast<double>(host_kl_[row])));
    }
    outcome.delta_nll.push_back(delta_sum);
    outcome.kl.push_back(kl_sum);
    outcome.flips.push_back(flips);
  }
}

std::vector<int> descending_order(std::span<const Comparison> comparisons) {
  std::vector<int> order(comparisons.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return comparisons[a].first_site > comparisons[b].first_site; });
  return order;
}

Evaluation Evaluator::run(Stream stream, const TokenStream& tokens, int64_t sequences,
                          std::span<const Comparison> comparisons, const Hooks& hooks) {
  const int64_t t = model_.options().seq_len;
  DR_CHECK(sequences >= 1 && sequences <= tokens.num_samples(t));
  const std::vector<int> order = descending_order(comparisons);
  Evaluation evaluation;
  evaluation.sequences = sequences;
  evaluation.seq_len = t;
  evaluation.tokens.assign(static_cast<size_t>(sequences), t);
  evaluation.outcomes.resize(comparisons.size());
  const auto worked = [&](int first_site, int64_t size) {
    if (hooks.worked) hooks.worked(cost(model_.config(), t, first_site) * static_cast<double>(size));
  };

  for (Batch batch; batch.first < sequences; batch.first += batch.size) {
    batch.size = std::min(model_.options().micro_batch, sequences - batch.first);
    const int64_t rows = batch.size * t;
    load(stream, tokens, batch);
    model_.forward(stream, tokens_.slice(0, batch.size));
    ops::copy(stream, model_.final_hidden(), clean_hidden_.slice(0, rows));
    // The clean loss comes from the op the cells use, so that an unchanged state gives exactly 0.
    compare(stream, rows);
    evaluation.clean_nll.insert(evaluation.clean_nll.end(), host_nll_.begin(), host_nll_.end());
    if (hooks.trace) hooks.trace->add(stream, model_, batch.first, hooks.weights);
    worked(0, batch.size);
    for (int index : order) {
      const Comparison& comparison = comparisons[index];
      model_.forward(stream, tokens_.slice(0, batch.size), comparison.controls, comparison.first_site);
      compare(stream, rows);
      add_outcome(batch, evaluation, evaluation.outcomes[index]);
      worked(comparison.first_site, batch.size);
    }
  }
  return evaluation;
}

}  // namespace depthroute
