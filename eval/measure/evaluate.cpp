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

bool Comparison::uses_donors() const {
  for (const SiteChange& change : changes)
    if (change.uses_donors()) return true;
  return false;
}

Evaluator::Evaluator(Qwen3& model, const ContentNeeds& needs, const ResampleConfig& resample, Arena& arena)
    : model_(model), contents_(model, needs, resample, arena) {
  const int64_t b = model.options().micro_batch, t = model.options().seq_len, n = b * t;
  const ModelConfig& config = model.config();
  arena.plan(Purpose::batch, &tokens_, {b, t}, DType::i32);
  arena.plan(Purpose::batch, &targets_, {n}, DType::i32);
  arena.plan(Purpose::batch, &counts_, {n}, DType::i32);
  const DType act = model.options().activations;
  arena.plan(Purpose::activations, &clean_hidden_, {n, config.hidden_size}, act);
  arena.plan(Purpose::activations, &hidden_, {kComparedAtOnce * n, config.hidden_size}, act);
  arena.plan(Purpose::batch, &nll_, {kComparedAtOnce * n});
  arena.plan(Purpose::batch, &kl_, {kComparedAtOnce * n});
  arena.plan(Purpose::batch, &flipped_, {kComparedAtOnce * n}, DType::i32);
  arena.plan(Purpose::batch, &hit_, {kComparedAtOnce * n}, DType::i32);
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
  const double heads =
      1.0 + 1.0 / static_cast<double>(kComparedAtOnce);  // its own, and a share of the clean one
  return (layers * std::max(share, 0.0) + heads * (whole - layers)) / whole;
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

/// The part of a batch that contents depend on.
void Evaluator::snapshot(Stream stream) {
  std::vector<std::vector<int64_t>> documents(static_cast<size_t>(batch_.size)), starts = documents;
  for (const Segment& segment : segments())
    documents[static_cast<size_t>(segment.sequence - batch_.first)].push_back(segment.document);
  for (int64_t i = 0; i < batch_.size; ++i)
    starts[static_cast<size_t>(i)] = sequences_->document_starts(batch_.first + i);
  std::vector<BatchSequence> batch;
  for (int64_t i = 0; i < batch_.size; ++i)
    batch.push_back({batch_.first + i, sequences_->length(batch_.first + i), documents[i], starts[i]});
  contents_.snapshot(stream, batch);
}

void Evaluator::calibrate(Stream stream, const Sequences& calibration) {
  int64_t next = 0;
  const int64_t t = model_.options().seq_len;
  std::vector<int32_t> targets(static_cast<size_t>(t));
  contents_.calibrate(stream, [&](CalibrationBatch& batch) {
    const int64_t size = std::min(model_.options().micro_batch, calibration.size() - next);
    batch.tokens.resize(static_cast<size_t>(size * t));
    batch.lengths.clear();
    for (int64_t i = 0; i < size; ++i, ++next) {
      calibration.read(next, std::span(batch.tokens).subspan(i * t, t), targets);
      batch.lengths.push_back(calibration.length(next));
    }
    return size > 0;
  });
}

void Evaluator::compare_heads(Stream stream, size_t passes) {
  const int64_t n = rows(), all = static_cast<int64_t>(passes) * n;
  ops::cross_entropy_compare(stream, clean_hidden_.slice(0, n), hidden_.slice(0, all), model_.head(),
                             targets_.slice(0, n), nll_.slice(0, all), kl_.slice(0, all),
                             flipped_.slice(0, all), hit_.slice(0, all), workspace_);
  host_nll_.resize(static_cast<size_t>(all));
  host_kl_.resize(host_nll_.size());
  host_flipped_.resize(host_nll_.size());
  host_hit_.resize(host_nll_.size());
  ops::copy(stream, nll_.slice(0, all), host_tensor(host_nll_.data(), {all}));
  ops::copy(stream, kl_.slice(0, all), host_tensor(host_kl_.data(), {all}));
  ops::copy(stream, flipped_.slice(0, all), host_tensor(host_flipped_.data(), {all}));
  ops::copy(stream, hit_.slice(0, all), host_tensor(host_hit_.data(), {all}));
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
  ops::copy(stream, model_.final_hidden(), hidden_.slice(0, rows()));
  // The clean loss comes from the op the cells use, so that an unchanged state gives exactly 0.
  compare_heads(stream, 1);
  clean_nll_ = host_nll_;
  clean_hit_ = host_hit_;
  const DepthPlan& plan = model_.plan();
  clean_weight_sums_.assign(plan.sites.size() * static_cast<size_t>(plan.max_sources()), kNan);
  sum_weights(stream, 0, clean_weight_sums_);
  snapshot(stream);
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
  if (options.edge_estimates && plan.sites.front().routed)
    estimate_edges(stream, values[CleanColumn::edge_estimate]);
  return values;
}

/// Masking source k moves its logit to -inf. To first order in its weight the loss changes by -(dL/dlogit_k) /
/// (1 - a_k), since dL/dlogit_k = a_k (dL/da_k - sum_j a_j dL/da_j) and the others share a_k in proportion.
void Evaluator::estimate_edges(Stream stream, std::vector<double>& sums) {
  constexpr double kLeast = 1e-6;  // where nothing else has weight, nothing of first order is known
  model_.backward(stream, targets_.slice(0, rows()), 1.0f);
  const DepthPlan& plan = model_.plan();
  const int64_t sites = static_cast<int64_t>(plan.sites.size()), widest = plan.max_sources();
  const int64_t t = model_.options().seq_len;
  sums.assign(segments().size() * static_cast<size_t>(sites * widest), kNan);
  std::vector<float> a, dlogit;
  for (int64_t site = 0; site < sites; ++site) {
    const int64_t n = plan.sites[site].num_sources();
    if (n < 2) continue;
    fetch(stream, model_.trace(static_cast<int>(site)).weights, a);
    fetch(stream, model_.logit_gradients(static_cast<int>(site)), dlogit);
    int64_t place = 0;
    for (const Segment& segment : segments()) {
      const int64_t begin = (segment.sequence - batch_.first) * t + segment.first_token;
      double* const own = sums.data() + (place++ * sites + site) * widest;
      std::fill(own, own + n, 0.0);
      for (int64_t row = begin; row < begin + segment.tokens; ++row)
        for (int64_t j = 0; j < n; ++j) {
          const double rest = 1.0 - static_cast<double>(a[row * n + j]);
          if (rest > kLeast) own[j] -= static_cast<double>(dlogit[row * n + j]) / rest;
        }
    }
  }
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

void Evaluator::add_sums(size_t place, const Pass& pass) const {
  const int64_t t = model_.options().seq_len, offset = static_cast<int64_t>(place) * rows();
  Outcome& outcome = *pass.outcome;
  size_t at = 0;
  double total = 0;
  for (const Segment& segment : segments()) {
    const int64_t begin = (segment.sequence - batch_.first) * t + segment.first_token;
    double delta_sum = 0, abs_sum = 0, kl_sum = 0, flips = 0, hit_change = 0;
    for (int64_t row = begin; row < begin + segment.tokens; ++row) {
      const double delta =
          static_cast<double>(host_nll_[offset + row]) - static_cast<double>(clean_nll_[row]);
      const double kl = host_kl_[offset + row];
      delta_sum += delta;
      abs_sum += std::abs(delta);
      kl_sum += kl;
      flips += host_flipped_[offset + row];
      hit_change += host_hit_[offset + row] - clean_hit_[row];
      *pass.largest_change = largest_of(*pass.largest_change, largest_of(std::abs(delta), std::abs(kl)));
    }
    outcome[CellColumn::delta_nll][at] += delta_sum;
    outcome[CellColumn::abs_delta_nll][at] += abs_sum;
    outcome[CellColumn::kl][at] += kl_sum;
    outcome[CellColumn::flips][at] += flips;
    outcome[CellColumn::hit_change][at] += hit_change;
    if (keeps_donors(*pass.comparison)) {
      const size_t place_of_donor = at * static_cast<size_t>(pass.comparison->repeats) + pass.repeat;
      outcome[CellColumn::segment_donor_delta_nll][place_of_donor] = delta_sum;
      outcome[CellColumn::segment_donor_hit_change][place_of_donor] = hit_change;
    }
    total += delta_sum;
    ++at;
  }
  if (pass.comparison->uses_donors()) outcome[CellColumn::donor_delta_nll].push_back(total);
  if (!pass.comparison->per_token) return;
  for (size_t row = 0; row < host_targets_.size(); ++row)
    outcome[CellColumn::token_delta_nll][row] +=
        host_targets_[row] < 0 ? kNan
                               : static_cast<double>(host_nll_[static_cast<size_t>(offset) + row]) -
                                     static_cast<double>(clean_nll_[row]);
}

/// What a task makes of a document is no linear function of its likelihoods, so donors are kept apart.
bool Evaluator::keeps_donors(const Comparison& comparison) const {
  return sequences_->requests() != nullptr && comparison.uses_donors();
}

void Evaluator::flush(Stream stream, std::vector<Pass>& passes) {
  if (passes.empty()) return;
  compare_heads(stream, passes.size());
  for (size_t place = 0; place < passes.size(); ++place) add_sums(place, passes[place]);
  passes.clear();
}

std::vector<Outcome> Evaluator::compare(Stream stream, std::span<const Comparison* const> comparisons) {
  constexpr CellColumn kSums[] = {CellColumn::delta_nll, CellColumn::abs_delta_nll, CellColumn::kl,
                                  CellColumn::flips, CellColumn::hit_change};
  std::vector<Outcome> outcomes(comparisons.size());
  std::vector<double> largest(comparisons.size(), 0.0);
  std::vector<Pass> waiting;
  for (size_t i = 0; i < comparisons.size(); ++i) {
    const Comparison& comparison = *comparisons[i];
    DR_CHECK(sequences_ && comparison.first_site <= valid_sites_);
    for (const CellColumn sums : kSums) outcomes[i][sums].assign(segments().size(), 0.0);
    outcomes[i][CellColumn::weight].assign(clean_weight_sums_.size(), 0.0);
    if (comparison.per_token) outcomes[i][CellColumn::token_delta_nll].assign(host_targets_.size(), 0.0);
    if (keeps_donors(comparison))
      for (const CellColumn column :
           {CellColumn::segment_donor_delta_nll, CellColumn::segment_donor_hit_change})
        outcomes[i][column].assign(segments().size() * static_cast<size_t>(comparison.repeats), 0.0);
    for (int64_t repeat = 0; repeat < comparison.repeats; ++repeat) {
      valid_sites_ = comparison.first_site;
      const std::vector<SiteIntervention> interventions =
          contents_.resolve(stream, comparison.changes, repeat);
      model_.forward(stream, tokens_.slice(0, batch_.size), interventions, comparison.first_site);
      const int64_t place = static_cast<int64_t>(waiting.size()) * rows();
      ops::copy(stream, model_.final_hidden(), hidden_.slice(place, place + rows()));
      std::vector<double> weights = clean_weight_sums_;
      sum_weights(stream, comparison.first_site, weights);
      for (size_t k = 0; k < weights.size(); ++k) outcomes[i][CellColumn::weight][k] += weights[k];
      waiting.push_back({&comparison, &outcomes[i], &largest[i], repeat});
      if (static_cast<int64_t>(waiting.size()) == kComparedAtOnce) flush(stream, waiting);
    }
  }
  flush(stream, waiting);
  for (size_t i = 0; i < comparisons.size(); ++i) {
    outcomes[i][CellColumn::largest_change] = {largest[i]};
    const double repeats = static_cast<double>(comparisons[i]->repeats);
    if (repeats == 1) continue;
    for (const CellColumn sums : kSums)
      for (double& value : outcomes[i][sums]) value /= repeats;
    for (const CellColumn sums : {CellColumn::weight, CellColumn::token_delta_nll})
      for (double& value : outcomes[i][sums]) value /= repeats;
  }
  return outcomes;
}

std::vector<int> descending_order(std::span<const Comparison> comparisons) {
  std::vector<int> order(comparisons.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return comparisons[a].first_site > comparisons[b].first_site; });
  return order;
}

}  // namespace depthroute
