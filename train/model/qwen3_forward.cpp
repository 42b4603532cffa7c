// The forward pass: for every sublayer, its site reads the states the plan names (completing the current one
// by the residual addition on the way), and its output becomes the next state.
#include <cmath>

#include "train/model/qwen3.h"

namespace depthroute {

const Tensor& Qwen3::read_output(int index) const {
  const Site& site = reads_[index];
  if (site.sublayer == Sublayer::final) return final_hidden_;
  const LayerActivations& layer = activations_[site.layer];
  return site.sublayer == Sublayer::attn ? layer.attn_in : layer.mlp_in;
}

void Qwen3::fill_read(int index, const SiteIntervention* intervention, Read& read) const {
  const Site& site = reads_[index];
  for (int j = 0; j < site.num_sources(); ++j) read.sources[j] = rows(states_[site.sources[j]]);
  const ReadWeights& weights = read_weights_[index];
  ops::RoutingSite& r = read.site;
  r.sources = {read.sources.data(), site.sources.size()};
  if (site.routed && (!intervention || intervention->learned_logits)) {
    r.query = weights.query;
    r.key_norm = weights.key_norm;
    r.recency_bias = weights.recency_bias;
  }
  if (intervention) {
    DR_CHECK(intervention->offset.empty() || intervention->offset.size() == site.sources.size());
    DR_CHECK(intervention->scale.empty() || intervention->scale.size() == site.sources.size());
    r.offset = intervention->offset;
    r.scale = intervention->scale;
  }
  r.key_eps = r.norm_eps = static_cast<float>(config_.rms_norm_eps);
  r.norm_weight = weights.norm;
  const SiteTrace kept = trace(index);
  r.weights = kept.weights;
  r.inv_rms = kept.inv_rms;
  r.dots = kept.dots;
  r.rstd = kept.rstd;
  if (!options_.training) return;
  r.projection = rows(projections_[place(index)]);
  if (site.num_sources() == 1) return;  // a site with one source mixes nothing
  r.output = rows(read_output(index));
  r.inverse_norm = inverse_norms_.slice(index, index + 1).reshape({config_.hidden_size});
}

int Qwen3::two_phase_begin(const SiteGroup& sites) const {
  if (options_.group_reads == GroupReads::none) return sites.end();
  // A current state that is also a finished one is complete only after its own site's read.
  int begin = sites.end();
  while (begin > sites.first && reads_[begin - 1].duplicate_of.back() < 0) --begin;
  const int sources = reads_[sites.first].num_sources();
  const bool wanted = options_.group_reads == GroupReads::all
                          ? sources > 1 && sites.end() - begin > 1
                          : ops::routing_read_finished_pays(sources, sites.end() - begin);
  return wanted ? begin : sites.end();
}

/// The gradient of a site's output comes after its read is done, so its memory may hold the partial mix.
void Qwen3::set_partial(int index, ops::RoutingSite& site) const {
  site.partial = rows(dinputs_[place(index)]);
  site.partial_lse = rows(partial_lses_[place(index)]);
}

void Qwen3::read_finished(Stream stream, int begin, int end) {
  std::array<Read, kMaxGroupSites> reads;
  std::array<ops::RoutingSite, kMaxGroupSites> sites;
  for (int index = begin; index < end; ++index) {
    Read& read = reads[index - begin];
    fill_read(index, nullptr, read);
    set_partial(index, read.site);
    sites[index - begin] = read.site;
  }
  ops::routing_read_finished(stream, {sites.data(), static_cast<size_t>(end - begin)});
}

/// Site index - 1 has been read, and so all that a group that begins at `index` calls finished is complete.
void Qwen3::start_group_reads(Stream stream, int index) {
  if (index != two_phase_begin(group(index))) return;
  run_beside(stream, [&](Stream beside) { read_finished(beside, index, group(index).end()); });
}

void Qwen3::read_forward(Stream stream, int index, const SiteIntervention* intervention, bool state_complete,
                         const Tensor& output) {
  // S_s holds f_{s-1} so far; S_{s-1} is still to be added, unless the state restarted there.
  const bool adds = index > 0 && !plan_.sites[index - 1].restart && !state_complete;
  const Tensor add = adds ? rows(states_[index - 1]) : Tensor{};
  if (intervention && intervention->needs_scratch())
    return read_with_contents(stream, index, *intervention, add, output);
  Read read;
  fill_read(index, intervention, read);
  if (index >= two_phase_begin(group(index))) set_partial(index, read.site);
  ops::routing_forward(stream, read.site, add, output);
}

void Qwen3::read_shares(Stream stream, int site, const Tensor& norms, const Tensor& projections,
                        const Tensor& cosines) const {
  Read read;
  fill_read(site, nullptr, read);
  ops::routing_shares(stream, read.site, norms, projections, cosines);
}

void Qwen3::attention_projections(Stream stream, int layer) {
  const LayerActivations& a = activations(layer);
  ops::gemm(stream, ops::Transpose::no, ops::Transpose::yes, rows(a.attn_in), weights_[layer].qkv, 0,
            rows(a.qkv));
}

void Qwen3::qk_norms(Stream stream, int layer) {
  const LayerWeights& w = weights_[layer];
  const LayerActivations& a = activations(layer);
  ops::qk_norm_rope_forward(stream, attention_shape(batch_), rows(a.qkv), w.q_norm, w.k_norm,
                            static_cast<float>(config_.rms_norm_eps), rope_, rows(a.q), rows(a.k));
}

void Qwen3::attention(Stream stream, int layer) {
  const LayerActivations& a = activations(layer);
  const ops::AttentionShape shape = attention_shape(batch_);
  const Tensor v = rows(a.qkv).columns(shape.q_cols() + shape.kv_cols(), shape.qkv_cols());
  ops::attention_forward(stream, shape, rows(a.q), rows(a.k), v, rows(a.attn_out), a.lse.slice(0, batch_),
                         workspace_);
}

void Qwen3::attention_forward(Stream stream, int layer, const Tensor& output) {
  attention_projections(stream, layer);
  qk_norms(stream, layer);
  attention(stream, layer);
  ops::gemm(stream, ops::Transpose::no, ops::Transpose::yes, rows(activations(layer).attn_out),
            weights_[layer].o, 0, output);
}

void Qwen3::mlp_projections(Stream stream, int layer) {
  const LayerActivations& a = activations(layer);
  ops::gemm(stream, ops::Transpose::no, ops::Transpose::yes, rows(a.mlp_in), weights_[layer].gate_up, 0,
            rows(a.gate_up));
}

void Qwen3::mlp_forward(Stream stream, int layer, const Tensor& output) {
  mlp_projections(stream, layer);
  const LayerActivations& a = activations(layer);
  ops::swiglu_forward(stream, rows(a.gate_up), rows(a.act));
  ops::gemm(stream, ops::Transpose::no, ops::Transpose::yes, rows(a.act), weights_[layer].down, 0, output);
}

void Qwen3::forward(Stream stream, const Tensor& tokens, std::span<const SiteIntervention> interventions,
                    int first_site, const ParametersNeeded& needed) {
  if (needed) {
    needed(layout_.matrices_size(), options_.block_size);
    needed(0, layout_.all().front().numel());
  }
  bind(stream);
  DR_CHECK(tokens.shape.rank() == 2 && tokens.shape[0] >= 1 && tokens.shape[0] <= options_.micro_batch);
  DR_CHECK(tokens.shape[1] == options_.seq_len);
  DR_CHECK(interventions.empty() || interventions.size() == plan_.sites.size());
  DR_CHECK(first_site >= 0 && first_site <= plan_.num_sublayers());
  DR_CHECK_MSG(first_site == 0 || batch_ == tokens.shape[0],
               "first_site > 0 needs an earlier pass on the same batch");
  batch_ = tokens.shape[0];
  differentiable_ = interventions.empty() && first_site == 0;
  DR_CHECK_MSG(differentiable_ || options_.group_reads == GroupReads::none,
               "a model with group_reads takes clean passes only");
  const auto intervention = [&](int index) {
    return index < static_cast<int>(interventions.size()) ? &interventions[index] : nullptr;
  };
  if (first_site == 0) {
    ops::copy(stream, tokens.reshape({num_tokens()}), rows(tokens_));
    ops::embedding_forward(stream, rows(tokens_), layout_.view(matrices(), "model.embed_tokens.weight"),
                           rows(states_[0]));
  }
  start_group_reads(stream, first_site);
  for (int s = first_site; s < plan_.num_sublayers(); ++s) {
    const bool state_complete = s == first_site && s > 0;
    const int layer = plan_.sites[s].layer;
    const Tensor next = rows(states_[s + 1]);
    if (side_) side_->join(stream);
    if (plan_.sites[s].sublayer == Sublayer::attn) {
      if (needed)
        needed(layout_.layer_begin(layer),
               layer + 1 < config_.num_layers ? layout_.layer_begin(layer + 1) : layout_.matrices_size());
      read_forward(stream, s, intervention(s), state_complete, rows(activations(layer).attn_in));
      start_group_reads(stream, s + 1);
      attention_forward(stream, layer, next);
    } else {
      read_forward(stream, s, intervention(s), state_complete, rows(activations(layer).mlp_in));
      start_group_reads(stream, s + 1);
      mlp_forward(stream, layer, next);
    }
  }
  if (needed) needed(0, layout_.layers_begin());
  const int last = plan_.num_sublayers();
  if (side_) side_->join(stream);
  read_forward(stream, last, intervention(last), first_site == last, rows(final_hidden_));
}

void Qwen3::loss(Stream stream, const Tensor& targets) {
  DR_CHECK(targets.numel() == num_tokens());
  ops::cross_entropy(stream, rows(final_hidden_), head(), targets.reshape({num_tokens()}), 0.0f, nll(), {},
                     {}, workspace_);
}

}  // namespace depthroute
