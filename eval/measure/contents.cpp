#include "eval/measure/contents.h"

#include <algorithm>

#include "configs/base/check.h"
#include "configs/base/error.h"
#include "configs/base/random.h"
#include "kernels/ops/ops.h"

namespace depthroute {
namespace {

bool share_document(const BatchSequence& a, const BatchSequence& b) {
  auto x = a.documents.begin();
  auto y = b.documents.begin();
  while (x != a.documents.end() && y != b.documents.end()) {
    if (*x == *y) return true;
    if (*x < *y)
      ++x;
    else
      ++y;
  }
  return false;
}

/// Whether a position of a sequence is in the filter.
bool passes(TokenFilter filter, int64_t position, const BatchSequence& sequence) {
  switch (filter) {
    case TokenFilter::position_0:
      return position == 0;
    case TokenFilter::not_position_0:
      return position != 0;
    case TokenFilter::document_start:
      return std::ranges::binary_search(sequence.document_starts, position);
    default:
      return true;
  }
}

}  // namespace

void ContentNeeds::add(const DepthPlan& plan, std::span<const SiteChange> changes) {
  DR_CHECK(changes.size() == plan.sites.size());
  std::set<int> donated;
  for (int site = 0; site < static_cast<int>(changes.size()); ++site) {
    const SiteChange& change = changes[site];
    if (!change.changes()) continue;
    for (const Substitution& s : change.substitutions) {
      const int state = plan.sites[site].sources.at(s.source);
      if (s.content.kind == ContentKind::mean) means.insert(state);
      if (s.content.kind == ContentKind::mean_per_position) position_means.insert(state);
      if (s.content.kind == ContentKind::donor) donated.insert(state);
    }
    if (change.weights == WeightSource::calibration) mean_weights.insert(site);
    if (change.weights == WeightSource::calibration_per_position) position_weights.insert(site);
    if (change.weights == WeightSource::clean) held_weights.insert(site);
    if (!change.tokens.all()) tokens.insert(change.tokens);
  }
  donor_states.insert(donated.begin(), donated.end());
  donor_slots = std::max(donor_slots, static_cast<int64_t>(donated.size()));
}

bool ContentNeeds::calibration() const {
  return !(means.empty() && position_means.empty() && mean_weights.empty() && position_weights.empty());
}

std::vector<int> donor_order(std::span<const BatchSequence> batch, int place, uint64_t seed) {
  const BatchSequence& taker = batch[place];
  const uint64_t key = random_bits(stream_key(seed, "donors"), static_cast<uint64_t>(taker.number));
  std::vector<std::pair<uint64_t, int>> drawn;
  for (int i = 0; i < static_cast<int>(batch.size()); ++i)
    if (i != place && !share_document(taker, batch[i]))
      drawn.emplace_back(random_bits(key, static_cast<uint64_t>(batch[i].number)), i);
  std::ranges::sort(drawn);
  std::vector<int> order;
  for (const auto& [bits, i] : drawn) order.push_back(i);
  return order;
}

void check_donors(std::span<const BatchSequence> batch, int64_t donors) {
  for (int i = 0; i < static_cast<int>(batch.size()); ++i) {
    const auto eligible = static_cast<int64_t>(donor_order(batch, i, 0).size());
    if (eligible >= donors) continue;
    throw ConfigError(
        "resample.donors is {}, but only {} of the {} sequences in the batch of sequence {} share no document "
        "with it; set a larger micro_batch that divides data.sequences, data.choose: shuffled, or fewer donors",
        donors, eligible, batch.size(), batch[i].number);
  }
}

Contents::Contents(Qwen3& model, const ContentNeeds& needs, const ResampleConfig& resample, Arena& arena)
    : model_(model), needs_(needs), resample_(resample) {
  const int64_t n = model.options().micro_batch * seq_len(), d = model.config().hidden_size;
  const DType act = model.options().activations;
  if (needs_.calibration()) plan_means(arena);
  for (const int state : needs_.donor_states) arena.plan(Purpose::states, &clean_states_[state], {n, d}, act);
  for (const int site : needs_.held_weights)
    arena.plan(Purpose::routing, &clean_weights_[site], {n, model.plan().sites[site].num_sources()});
  donor_slots_.resize(static_cast<size_t>(needs_.donor_slots));
  for (Tensor& slot : donor_slots_) arena.plan(Purpose::states, &slot, {n, d}, act);
  for (const TokenRange& range : needs_.tokens) arena.plan(Purpose::batch, &masks_[range], {n}, DType::i32);
}

void Contents::snapshot(Stream stream, std::span<const BatchSequence> batch) {
  const int64_t rows = static_cast<int64_t>(batch.size()) * seq_len();
  lengths_.clear();
  donors_.clear();
  for (int i = 0; i < static_cast<int>(batch.size()); ++i) {
    DR_CHECK(batch[i].length >= 1 && batch[i].length <= seq_len());
    lengths_.push_back(batch[i].length);
    if (needs_.donors()) donors_.push_back(donor_order(batch, i, resample_.seed));
  }
  for (auto& [state, kept] : clean_states_) ops::copy(stream, model_.state(state), kept.slice(0, rows));
  for (auto& [site, kept] : clean_weights_)
    ops::copy(stream, model_.trace(site).weights, kept.slice(0, rows));
  build_masks(stream, batch);
}

void Contents::build_masks(Stream stream, std::span<const BatchSequence> batch) {
  for (auto& [range, mask] : masks_) {
    std::vector<int32_t> values;
    for (const BatchSequence& sequence : batch)
      for (int64_t t = 0; t < seq_len(); ++t)
        values.push_back(t >= range.first && t <= range.last && passes(range.filter, t, sequence));
    const auto rows = static_cast<int64_t>(values.size());
    ops::copy(stream, host_tensor(values.data(), {rows}), mask.slice(0, rows));
    synchronize(stream);
  }
}

/// Fills `slot` with the donors' copies of a clean state, sequence by sequence, at the same positions. A donor
/// that is too short goes on with its position 1: position 0 is unlike all others.
Tensor Contents::donor_content(Stream stream, int state, int64_t repeat, const Tensor& slot) const {
  const Tensor& clean = clean_states_.at(state);
  const int64_t t = seq_len();
  for (size_t i = 0; i < donors_.size(); ++i) {
    DR_CHECK_MSG(repeat < static_cast<int64_t>(donors_[i].size()), "too few donors: check_donors() first");
    const int64_t donor = donors_[i][static_cast<size_t>(repeat)], length = lengths_[donor];
    const int64_t to = static_cast<int64_t>(i) * t, from = donor * t;
    int64_t done = 0;
    while (done < t) {
      const int64_t begin = done == 0 || length == 1 ? 0 : 1;
      const int64_t count = std::min(length - begin, t - done);
      ops::copy(stream, clean.slice(from + begin, from + begin + count),
                slot.slice(to + done, to + done + count));
      done += count;
    }
  }
  return slot.slice(0, static_cast<int64_t>(donors_.size()) * t);
}

Tensor Contents::content(Stream stream, int site, const Substitution& substitution, int64_t repeat,
                         std::map<int, Tensor>& donated) {
  const std::vector<int>& sources = model_.plan().sites[site].sources;
  const int state = sources.at(substitution.source);
  switch (substitution.content.kind) {
    case ContentKind::mean:
      return mean_of({false, false, state});
    case ContentKind::mean_per_position:
      return mean_of({false, true, state});
    case ContentKind::source:
      return model_.state(sources.at(substitution.content.source));
    case ContentKind::donor:
      break;
  }
  if (const auto known = donated.find(state); known != donated.end()) return known->second;
  const Tensor& slot = donor_slots_.at(donated.size());
  return donated[state] = donor_content(stream, state, repeat, slot);
}

Tensor Contents::weights(int site, WeightSource source) const {
  switch (source) {
    case WeightSource::softmax:
      break;
    case WeightSource::calibration:
      return mean_of({true, false, site});
    case WeightSource::calibration_per_position:
      return mean_of({true, true, site});
    case WeightSource::clean:
      return clean_weights_.at(site).slice(0, static_cast<int64_t>(lengths_.size()) * seq_len());
  }
  return {};
}

std::vector<SiteIntervention> Contents::resolve(Stream stream, std::span<const SiteChange> changes,
                                                int64_t repeat) {
  DR_CHECK(changes.size() == model_.plan().sites.size());
  std::vector<SiteIntervention> interventions(changes.size());
  std::map<int, Tensor> donated;  // by state
  for (int site = 0; site < static_cast<int>(changes.size()); ++site) {
    const SiteChange& change = changes[site];
    SiteIntervention& intervention = interventions[site];
    intervention.offset = change.offset;
    intervention.scale = change.scale;
    intervention.learned_logits = change.learned_logits;
    if (!change.changes()) continue;
    for (const Substitution& s : change.substitutions)
      intervention.replaced.push_back({s.source, s.what, content(stream, site, s, repeat, donated)});
    intervention.weights = weights(site, change.weights);
    if (!change.tokens.all())
      intervention.tokens =
          masks_.at(change.tokens).slice(0, static_cast<int64_t>(lengths_.size()) * seq_len());
  }
  return interventions;
}

}  // namespace depthroute
