// What a Qwen3 is made of: memory planned from the depth plan, and the views of its parameters. The
// computation is in qwen3_forward.cpp and qwen3_backward.cpp.
#include "train/model/qwen3.h"

#include <fmt/format.h>

#include <algorithm>

namespace depthroute {

Qwen3::Qwen3(const ModelConfig& config, const Qwen3Options& options, Arena& arena)
    : config_(config), plan_(make_depth_plan(config)), layout_(config, plan_), options_(options) {
  DR_CHECK(options.micro_batch > 0 && options.seq_len > 0);
  reads_ = plan_.sites;
  if (!plan_.has_final_site()) {  // norm(S_2L): a read of one source without routing
    Site last;
    last.layer = plan_.num_layers;
    last.sublayer = Sublayer::final;
    last.sources = {plan_.num_sublayers()};
    last.duplicate_of = {-1};
    last.routed = false;
    reads_.push_back(last);
  }
  plan_memory(arena);
}

ops::AttentionShape Qwen3::attention_shape() const {
  return {batch_, options_.seq_len, config_.num_heads, config_.num_kv_heads, config_.head_dim};
}

void Qwen3::plan_memory(Arena& arena) {
  const int64_t n = options_.micro_batch * options_.seq_len, d = config_.hidden_size,
                f = config_.intermediate_size;
  const ops::AttentionShape attention = {options_.micro_batch, options_.seq_len, config_.num_heads,
                                         config_.num_kv_heads, config_.head_dim};
  const bool training = options_.training;
  arena.plan(Purpose::parameters, &parameters_, {layout_.block_size()});
  if (training) arena.plan(Purpose::gradients, &gradients_, {layout_.block_size()});

  states_.resize(plan_.num_sublayers() + 1);
  for (Tensor& state : states_) arena.plan(Purpose::states, &state, {n, d});

  traces_.resize(reads_.size());
  for (size_t i = 0; i < reads_.size(); ++i) {
    const int64_t sources = reads_[i].num_sources();
    arena.plan(Purpose::routing, &traces_[i].weights, {n, sources});
    arena.plan(Purpose::routing, &traces_[i].inv_rms, {n, sources});
    arena.plan(Purpose::routing, &traces_[i].dots, {n, sources});
    arena.plan(Purpose::routing, &traces_[i].rstd, {n});
  }

  activations_.resize(training ? plan_.num_layers : 1);
  for (LayerActivations& layer : activations_) {
    arena.plan(Purpose::activations, &layer.attn_in, {n, d});
    arena.plan(Purpose::activations, &layer.qkv, {n, attention.qkv_cols()});
    arena.plan(Purpose::activations, &layer.q, {n, attention.q_cols()});
    arena.plan(Purpose::activations, &layer.k, {n, attention.kv_cols()});
    arena.plan(Purpose::activations, &layer.attn_out, {n, attention.q_cols()});
    arena.plan(Purpose::activations, &layer.lse, {options_.micro_batch, config_.num_heads, options_.seq_len});
    arena.plan(Purpose::activations, &layer.mlp_in, {n, d});
    arena.plan(Purpose::activations, &layer.gate_up, {n, 2 * f});
  }
  arena.plan(Purpose::activations, &rope_, {options_.seq_len, config_.head_dim});
  arena.plan(Purpose::activations, &final_hidden_, {n, d});
  arena.plan(Purpose::batch, &nll_, {n});
  arena.plan(Purpose::batch, &tokens_, {n}, DType::i32);
  arena.plan(Purpose::workspace, &act_, {n, f});

  int64_t floats =
      std::max(ops::attention_workspace(attention), ops::cross_entropy_workspace(config_.vocab_size));
  if (training) {
    state_gradients_.resize(plan_.num_gradient_slots);
    for (Tensor& gradient : state_gradients_) arena.plan(Purpose::state_gradients, &gradient, {n, d});
    arena.plan(Purpose::workspace, &dact_, {n, f});
    arena.plan(Purpose::workspace, &dinput_, {n, d});
    arena.plan(Purpose::workspace, &dqkv_, {n, attention.qkv_cols()});
    arena.plan(Purpose::workspace, &dq_, {n, attention.q_cols()});
    arena.plan(Purpose::workspace, &dk_, {n, attention.kv_cols()});
    arena.plan(Purpose::workspace, &dattn_, {n, attention.q_cols()});
    floats = std::max(
        {floats, ops::reduction_workspace(2 * d + 1), ops::reduction_workspace(2 * config_.head_dim)});
  }
  arena.plan(Purpose::workspace, &workspace_, {floats});
}

void Qwen3::bind_weights(const Tensor& block, std::vector<LayerWeights>& layers,
                         std::vector<ReadWeights>& reads) const {
  const auto view = [&](const std::string& name) { return layout_.view(block, name); };
  // Parameters that follow one another without padding, read as one matrix of more rows.
  const auto fused = [&](const std::string& first, const std::string& last) {
    const Parameter &begin = layout_.find(first), &end = layout_.find(last);
    const int64_t cols = begin.shape[1], size = end.offset + end.numel() - begin.offset;
    return block.slice(begin.offset, begin.offset + size).reshape({div_exact(size, cols), cols});
  };
  for (int i = 0; i < plan_.num_layers; ++i) {
    const std::string layer = fmt::format("model.layers.{}.", i), attn = layer + "self_attn.",
                      mlp = layer + "mlp.";
    layers.push_back(
        {view(layer + "input_layernorm.weight"), fused(attn + "q_proj.weight", attn + "v_proj.weight"),
         view(attn + "q_norm.weight"), view(attn + "k_norm.weight"), view(attn + "o_proj.weight"),
         view(layer + "post_attention_layernorm.weight"),
         fused(mlp + "gate_proj.weight", mlp + "up_proj.weight"), view(mlp + "down_proj.weight")});
  }
  for (const Site& site : reads_) {
    const bool final = site.sublayer == Sublayer::final, attn = site.sublayer == Sublayer::attn;
    ReadWeights read;
    if (site.routed) {
      const std::string prefix =
          final ? std::string("model.final_res")
                : fmt::format("model.layers.{}.{}_res", site.layer, attn ? "attn" : "mlp");
      read.query = view(prefix + "_proj.weight").reshape({config_.hidden_size});
      read.key_norm = view(prefix + "_norm.weight");
      read.recency_bias = view(prefix + "_bias").reshape({1});
    }
    read.norm = final ? view("model.norm.weight")
                      : (attn ? layers[site.layer].input_norm : layers[site.layer].post_norm);
    reads.push_back(read);
  }
}

void Qwen3::bind() {
  if (bound_) return;
  DR_CHECK_MSG(parameters_.defined(), "Qwen3 used before Arena::allocate");
  bind_weights(parameters_, weights_, read_weights_);
  if (options_.training) bind_weights(gradients_, weight_gradients_, read_gradients_);
  ops::rope_table(make_stream(device()), config_.rope_theta, rope_);
  bound_ = true;
}

Tensor Qwen3::nll() const { return rows(nll_); }
Tensor Qwen3::final_hidden() const { return rows(final_hidden_); }
Tensor Qwen3::state(int index) const { return rows(states_.at(index)); }

Tensor Qwen3::head() const {
  return layout_.view(parameters_, config_.tie_embeddings ? "model.embed_tokens.weight" : "lm_head.weight");
}

SiteTrace Qwen3::trace(int site) const {
  const SiteTrace& full = traces_.at(site);
  return {rows(full.weights), rows(full.inv_rms), rows(full.dots), rows(full.rstd)};
}

double Qwen3::train_flops_per_token(const ModelConfig& c, int64_t seq_len) {
  const double q_cols = static_cast<double>(c.num_heads * c.head_dim);
  const double kv_cols = static_cast<double>(c.num_kv_heads * c.head_dim);
  const double d = static_cast<double>(c.hidden_size), layers = static_cast<double>(c.num_layers);
  const double per_layer = d * (2 * q_cols + 2 * kv_cols) + 3 * d * static_cast<double>(c.intermediate_size);
  const double weights = layers * per_layer + d * static_cast<double>(c.vocab_size);
  return 6 * weights + 6 * layers * static_cast<double>(seq_len) * q_cols;
}

}  // namespace depthroute
