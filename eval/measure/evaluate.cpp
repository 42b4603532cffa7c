#include "eval/measure/evaluate.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "configs/base/check.h"
#include "eval/measure/clean_routing.h"
#include "kernels/ops/ops.h"

namespace depthroute {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

/// Copies [rows, n] floats to the host.
void fetch(Stream stream, const Tensor& tensor, std::vector<float>& to) {
  to.resize(static_cast<size_t>(tensor.numel()));
  ops::copy(stream, tensor, host_tensor(to.data(), tensor.shape));
  synchronize(stream);
}

}  // namespace

Evaluator::Evaluator(Qwen3& model, Arena& arena) : model_(model) {
  const int64_t b = model.options().micro_batch, t = model.options().seq_len, n = b * t;
  const ModelConfig& config = model.config();
  arena.plan(Purpose::batch, &tokens_, {b, t}, DType::i32);
  arena.plan(Purpose::batch, &targets_, {n}, DType::i32);
  arena.plan(Purpose::batch, &counts_, {n}, DType::i32);
  const DType act = model.options().activations;
  arena.plan(Purpose::activations, &clean_hidden_, {n, config.hidden_size}, act);
  arena.plan(Purpose::batch, &nll_, {n});
  arena.plan(Purpose::batch, &kl_, {n});
  arena.plan(Purpose::batch, &flipped_, {n}, DType::i32);
  arena.plan(Purpose::batch, &hit_, {n}, DType::i32);
  const DepthPlan& plan = model.plan();
  const int64_t widest = plan.max_sources();
  arena.plan(Purpose::routing, &weight_sums_, {static_cast<int64_t>(plan.sites.size()) * widest}, DType::f64);
  for (Tensor& share : shares_) arena.plan(Purpose::routing, &share, {n * widest});
  arena.plan(Purpose::workspace, &workspace_,
             {std::max(ops::cross_entropy_compare_workspace(arena.device(), act, n, config.vocab_size),
                       ops::column_sums_workspace(arena.device(), widest))});
}

double Evaluator::cost(const ModelConfig& config, int64_t seq_len, int first_site) {
  ModelConfig headless = config;
  headless.vocab_size = 0;
  const double whole = Qwen3::train_flops_per_token(config, seq_len);
  const double layers = Qwen3::train_flops_per_token(headless, seq_len);
  const double share = 1.0 - static_cast<double>(first_site) / static_cast<double>(config.num_sublayers());
  return (layers * std::max(share, 0.0) + 2 * (whole - layers)) / whole;  // clean and ablated head both
}

void Evaluator::load(Stream stream) {
  const int64_t t = model_.options().seq_len;
  host_tokens_.resize(static_cast<size_t>(rows()));
  host_targets_.resize(host_tokens_.size());
  for (int64_t i = 0; i < batch_.size; ++i)
    sequences_->read(batch_.first + i, std::span(host_tokens_).subspan(i * t, t),
                     std::span(host_targets_).subspan(i * t, t));
  std::vector<int32_t> counts;
  for (const int32_t target : host_targets_) counts.push_back(target >= 0);
  ops::copy(stream, host_tensor(host_tokens_.data(), {batch_.size, t}), tokens_.slice(0, batch_.size));
  ops::copy(stream, host_tensor(host_targets_.data(), {rows()}), targets_.slice(0, rows()));
  ops::copy(stream, host_tensor(counts.data(), {rows()}), counts_.slice(0, rows()));
  synchronize(stream);
}

void Evaluator::compare_heads(Stream stream) {
  const int64_t n = rows();
  ops::cross_entropy_compare(stream, clean_hidden_.slice(0, n), model_.final_hidden(), model_.head(),
                             targets_.slice(0, n), nll_.slice(0, n), kl_.slice(0, n), flipped_.slice(0, n),
                             hit_.slice(0, n), workspace_);
  host_nll_.resize(static_cast<size_t>(n));
  host_kl_.resize(host_nll_.size());
  host_flipped_.resize(host_nll_.size());
  host_hit_.resize(host_nll_.size());
  ops::copy(stream, nll_.slice(0, n), host_tensor(host_nll_.data(), {n}));
  ops::copy(stream, kl_.slice(0, n), host_tensor(host_kl_.data(), {n}));
  ops::copy(stream, flipped_.slice(0, n), host_tensor(host_flipped_.data(), {n}));
  ops::copy(stream, hit_.slice(0, n), host_tensor(host_hit_.data(), {n}));
  synchronize(stream);
}

void Evaluator::start(Stream stream, const Sequences& sequences, const SequenceRange& batch) {
  DR_CHECK(batch.size >= 1 && batch.size <= model_.options().micro_batch);
  DR_CHECK(batch.first >= 0 && batch.first + batch.size <= sequences.size());
  sequences_ = &sequences;
  batch_ = batch;
  load(stream);
  model_.forward(stream, tokens_.slice(0, batch.size));
  ops::copy(stream, model_.final_hidden(), clean_hidden_.slice(0, rows()));
  // The clean loss comes from the op the cells use, so that an unchanged state gives exactly 0.
  compare_heads(stream);
  clean_nll_ = host_nll_;
  clean_hit_ = host_hit_;
  const DepthPlan& plan = model_.plan();
  clean_weight_sums_.assign(plan.sites.size() * static_cast<size_t>(plan.max_sources()), kNan);
  sum_weights(stream, 0, clean_weight_sums_);
  valid_sites_ = static_cast<int>(plan.sites.size());
}

CleanValues Evaluator::clean(Stream stream, const CleanOptions& options, std::vector<uint16_t>* weights) {
  DR_CHECK(valid_sites_ == static_cast<int>(model_.plan().sites.size()));
  CleanValues values;
  for (size_t row = 0; row < host_targets_.size(); ++row) {
    const bool counts = host_targets_[row] >= 0;
    values[CleanColumn::nll].push_back(counts ? static_cast<double>(clean_nll_[row]) : kNan);
    values[CleanColumn::hit].push_back(counts ? clean_hit_[row] : kNan);
  }
  const DepthPlan& plan = model_.plan();
  CleanRouting routing(plan, segments(), batch_.first, model_.options().seq_len, values);
  std::vector<float> a, shares[3];
  if (weights && options.all_weights) routing.store_all(host_targets_, *weights);
  for (int site = 0; site < static_cast<int>(plan.sites.size()); ++site) {
    if (!plan.sites[site].routed) continue;
    const int64_t n = plan.sites[site].num_sources();
    fetch(stream, model_.trace(site).weights, a);
    Tensor views[3];
    for (int k = 0; k < 3; ++k) views[k] = shares_[k].slice(0, rows() * n).reshape({rows(), n});
    model_.read_shares(stream, site, views[0], views[1], views[2]);
    for (int k = 0; k < 3; ++k) fetch(stream, views[k], shares[k]);
    routing.add_site(site, a, {shares[0], shares[1], shares[2]});
  }
  return values;
}

void Evaluator::sum_weights(Stream stream, int first_site, std::vector<double>& sums) {
  const DepthPlan& plan = model_.plan();
  const int64_t widest = plan.max_sources(), sites = static_cast<int64_t>(plan.sites.size());
  if (first_site >= sites || !plan.sites[first_site].routed) return;
  ops::zero(stream, weight_sums_);
  for (int64_t site = first_site; site < sites; ++site) {
    const int64_t n = plan.sites[site].num_sources();
    ops::column_sums(stream, model_.trace(static_cast<int>(site)).weights, counts_.slice(0, rows()),
                     weight_sums_.slice(site * widest, site * widest + n), workspace_);
  }
  std::vector<double> fetched(static_cast<size_t>(weight_sums_.numel()));
  ops::copy(stream, weight_sums_, host_tensor(fetched.data(), weight_sums_.shape));
  synchronize(stream);
  for (int64_t site = first_site; site < sites; ++site)
    for (int64_t j = 0; j < plan.sites[site].num_sources(); ++j)
      sums[site * widest + j] = fetched[site * widest + j];
}

Outcome Evaluator::compare(Stream stream, const Comparison& comparison) {
  DR_CHECK(sequences_ && comparison.first_site <= valid_sites_);
  valid_sites_ = comparison.first_site;
  model_.forward(stream, tokens_.slice(0, batch_.size), comparison.site_interventions, comparison.first_site);
  compare_heads(stream);

  const int64_t t = model_.options().seq_len;
  Outcome outcome;
  double largest_change = 0;
  for (const Segment& segment : segments()) {
    const int64_t begin = (segment.sequence - batch_.first) * t + segment.first_token;
    double delta_sum = 0, abs_sum = 0, kl_sum = 0, flips = 0, hit_change = 0;
    for (int64_t row = begin; row < begin + segment.tokens; ++row) {
      const double delta = static_cast<double>(host_nll_[row]) - static_cast<double>(clean_nll_[row]);
      const double kl = host_kl_[row];
      delta_sum += delta;
      abs_sum += std::abs(delta);
      kl_sum += kl;
      flips += host_flipped_[row];
      hit_change += host_hit_[row] - clean_hit_[row];
      largest_change = largest_of(largest_change, largest_of(std::abs(delta), std::abs(kl)));
    }
    outcome[CellColumn::delta_nll].push_back(delta_sum);
    outcome[CellColumn::abs_delta_nll].push_back(abs_sum);
    outcome[CellColumn::kl].push_back(kl_sum);
    outcome[CellColumn::flips].push_back(flips);
    outcome[CellColumn::hit_change].push_back(hit_change);
  }
  outcome[CellColumn::largest_change] = {largest_change};
  outcome[CellColumn::weight] = clean_weight_sums_;
  sum_weights(stream, comparison.first_site, outcome[CellColumn::weight]);
  if (comparison.per_token)
    for (size_t row = 0; row < host_targets_.size(); ++row)
      outcome[CellColumn::token_delta_nll].push_back(host_targets_[row] < 0
                                                         ? kNan
                                                         : static_cast<double>(host_nll_[row]) -
                                                               static_cast<double>(clean_nll_[row]));
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
