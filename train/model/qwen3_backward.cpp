// The backward pass: reads the plan's table from its end. The gradient of a state is complete once every site
// that reads it has been passed; a state that nothing else reads shares a buffer with its successor
// (DepthPlan::gradient_slot).
#include <algorithm>

#include "train/model/qwen3.h"

namespace depthroute {

float Qwen3::beta_of(int slot) {
  const bool written = written_[slot];
  written_[slot] = true;
  return written ? 1.0f : 0.0f;
}

void Qwen3::finish_sums(Stream stream) {
  ops::add_partial_sums(stream, num_tokens(), unfinished_);
  unfinished_.clear();
  unfinished_sites_ = 0;
}

void Qwen3::read_backward(Stream stream, int index, const Tensor& add) {
  join_group(stream);
  Read read;
  fill_read(index, nullptr, read);
  const ReadWeights& g = read_gradients_[index];
  const int slot = plan_.gradient_slot[reads_[index].sources.back()];
  const Tensor& partials = norm_partials_[unfinished_sites_];
  ops::routing_backward(stream, read.site, rows(dinputs_[place(index)]), add, beta_of(slot),
                        rows(state_gradients_[slot]), {g.query, g.key_norm, g.recency_bias, {}, {}},
                        partials);
  unfinished_.push_back({partials, config_.hidden_size, 0, g.norm});
  if (++unfinished_sites_ == kMaxGroupSites) finish_sums(stream);
  if (index != group(index).first || reads_[index].num_sources() == 1) return;
  run_beside(stream, [&](Stream beside) { group_backward(beside, group(index)); });
  side_group_ = group_of_[index];
}

void Qwen3::join_group(Stream stream, int slot) {
  if (!side_ || side_group_ < 0) return;
  const std::vector<int>& sources = reads_[groups_[side_group_].first].sources;
  const auto writes = [&](int state) { return plan_.gradient_slot[state] == slot; };
  if (slot >= 0 && std::none_of(sources.begin(), sources.end() - 1, writes)) return;
  side_->join(stream);
  side_group_ = -1;
}

void Qwen3::group_backward(Stream stream, const SiteGroup& sites) {
  std::array<Read, kMaxGroupSites> reads;
  std::array<ops::RoutingSite, kMaxGroupSites> filled;
  std::array<Tensor, kMaxGroupSites> doutputs;
  std::array<ops::RoutingGradients, kMaxGroupSites> gradients;
  std::array<Tensor, kMaxSources> dsources;
  std::array<float, kMaxSources> betas;
  for (int i = 0; i < sites.count; ++i) {
    fill_read(sites.first + i, nullptr, reads[i]);
    filled[i] = reads[i].site;
    doutputs[i] = rows(dinputs_[place(sites.first + i)]);
    const ReadWeights& g = read_gradients_[sites.first + i];
    gradients[i] = {g.query, g.key_norm, g.recency_bias, g.norm, logit_gradients(sites.first + i)};
  }
  const Site& site = reads_[sites.first];
  const size_t shared = site.sources.size() - 1, count = static_cast<size_t>(sites.count);
  for (size_t j = 0; j < shared; ++j) {
    const int slot = plan_.gradient_slot[site.sources[j]];
    dsources[j] = rows(state_gradients_[slot]);
    betas[j] = beta_of(slot);
  }
  ops::routing_backward_shared(stream, {filled.data(), count}, {doutputs.data(), count},
                               {dsources.data(), shared}, {betas.data(), shared}, {gradients.data(), count},
                               side_ ? side_workspace_ : workspace_);
}

void Qwen3::recompute(Stream stream, int index) {
  if (keeps_norms()) return;
  join_group(stream);  // it reads what is computed again in the same memory
  // The final read is not computed again: its output was kept.
  const SiteGroup& sites = group(index);
  const int end = std::min(sites.end(), plan_.num_sublayers()), begin = two_phase_begin(sites);
  if (index == end - 1 && begin < end) read_finished(stream, begin, end);
  const int layer = plan_.sites[index].layer;
  const bool whole = options_.recompute == Recompute::layer;
  const LayerActivations& a = activations(layer);
  if (plan_.sites[index].sublayer == Sublayer::attn) {
    read_forward(stream, index, nullptr, true, rows(a.attn_in));
    if (whole) attention_projections(stream, layer);
    qk_norms(stream, layer);
    if (whole) attention(stream, layer);
  } else {
    read_forward(stream, index, nullptr, true, rows(a.mlp_in));
    if (whole) mlp_projections(stream, layer);
  }
}

void Qwen3::attention_backward(Stream stream, int layer, const Tensor& doutput, const Tensor& dinput) {
  const LayerWeights &w = weights_[layer], &g = weight_gradients_[layer];
  const LayerActivations& a = activations(layer);
  const ops::AttentionShape shape = attention_shape(batch_);
  const float eps = static_cast<float>(config_.rms_norm_eps);
  const int64_t v_begin = shape.q_cols() + shape.kv_cols();
  const Tensor qkv = rows(a.qkv), q = rows(a.q), k = rows(a.k), out = rows(a.attn_out);
  const Tensor dqkv = rows(dqkv_), dq = rows(dq_), dk = rows(dk_), dattn = rows(dattn_);
  ops::gemm(stream, ops::Transpose::yes, ops::Transpose::no, doutput, out, 1, g.o);
  ops::gemm(stream, ops::Transpose::no, ops::Transpose::no, doutput, w.o, 0, dattn);
  ops::attention_backward(stream, shape, dattn, q, k, qkv.columns(v_begin, shape.qkv_cols()), out,
                          a.lse.slice(0, batch_), dq, dk, dqkv.columns(v_begin, shape.qkv_cols()),
                          workspace_);
  const Tensor& partials = qk_partials_[unfinished_sites_];
  ops::qk_norm_rope_backward(stream, shape, dq, dk, qkv, w.q_norm, w.k_norm, eps, rope_, dqkv, {}, {},
                             partials);
  if (config_.qk_norm) {
    unfinished_.push_back({partials, 2 * config_.head_dim, 0, g.q_norm});
    unfinished_.push_back({partials, 2 * config_.head_dim, config_.head_dim, g.k_norm});
  }
  ops::gemm(stream, ops::Transpose::yes, ops::Transpose::no, dqkv, rows(a.attn_in), 1, g.qkv);
  ops::gemm(stream, ops::Transpose::no, ops::Transpose::no, dqkv, w.qkv, 0, dinput);
}

void Qwen3::mlp_backward(Stream stream, int layer, const Tensor& doutput, const Tensor& dinput) {
  const LayerWeights &w = weights_[layer], &g = weight_gradients_[layer];
  const LayerActivations& a = activations(layer);
  const Tensor gate_up = rows(a.gate_up), act = rows(a.act), dact = rows(dact_);
  ops::gemm(stream, ops::Transpose::no, ops::Transpose::no, doutput, w.down, 0, dact);
  // gate_up becomes its own gradient; act is computed again unless it was kept.
  ops::swiglu_backward(stream, dact, gate_up, gate_up, keeps_act() ? Tensor{} : act);
  ops::gemm(stream, ops::Transpose::yes, ops::Transpose::no, doutput, act, 1, g.down);
  ops::gemm(stream, ops::Transpose::yes, ops::Transpose::no, gate_up, rows(a.mlp_in), 1, g.gate_up);
  ops::gemm(stream, ops::Transpose::no, ops::Transpose::no, gate_up, w.gate_up, 0, dinput);
}

void Qwen3::backward(Stream stream, const Tensor& targets, float grad_scale, const GradientsReady& ready) {
  DR_CHECK_MSG(options_.training && differentiable_,
               "Qwen3::backward needs training = true and a clean forward pass");
  DR_CHECK(targets.numel() == num_tokens());
  const Tensor dhead =
      layout_.view(gradients_, config_.tie_embeddings ? "model.embed_tokens.weight" : "lm_head.weight");
  const int last = plan_.num_sublayers();
  ops::cross_entropy(stream, rows(final_hidden_), head(), targets.reshape({num_tokens()}), grad_scale, nll(),
                     rows(dinputs_[place(last)]), dhead, workspace_);
  written_.assign(state_gradients_.size(), false);
  read_backward(stream, last, {});
  for (int s = last - 1; s >= 0; --s) {
    const Site& site = plan_.sites[s];
    const int slot = plan_.gradient_slot[s], next_slot = plan_.gradient_slot[s + 1];
    const Tensor doutput = rows(state_gradients_[next_slot]), dinput = rows(dinputs_[place(s)]);
    recompute(stream, s);
    join_group(stream, next_slot);
    if (site.sublayer == Sublayer::attn) {
      attention_backward(stream, site.layer, doutput, dinput);
    } else {
      mlp_backward(stream, site.layer, doutput, dinput);
    }
    // S_{s+1} = S_s + f_s: the gradient flows on; nothing to do if both states share a buffer.
    read_backward(stream, s, !site.restart && slot != next_slot ? doutput : Tensor{});
    if (ready && site.sublayer == Sublayer::attn) ready(layout_.layer_begin(site.layer));
  }
  finish_sums(stream);
  join_group(stream);
  ops::embedding_backward(stream, rows(tokens_), rows(state_gradients_[plan_.gradient_slot[0]]),
                          layout_.view(gradients_, "model.embed_tokens.weight"));
  differentiable_ =
      false;  // gate_up has become its own gradient: another backward pass needs another forward pass
  if (ready) ready(0);
}

}  // namespace depthroute
