// Plans the memory of a Qwen3 from the depth plan, and makes the views of its parameters and activations.
#include <fmt/format.h>

#include <algorithm>

#include "train/model/qwen3.h"

namespace depthroute {

namespace {

/// The members of one layer's activations, with their shapes.
template <typename Activations, typename Visit>
void visit_reads(Activations& a, const ops::AttentionShape& shape, int64_t d, const Visit& visit) {
  visit(a.attn_in, Shape{shape.tokens(), d});
  visit(a.mlp_in, Shape{shape.tokens(), d});
}
template <typename Activations, typename Visit>
void visit_norms(Activations& a, const ops::AttentionShape& shape, const Visit& visit) {
  const int64_t n = shape.tokens();
  visit(a.q, Shape{n, shape.q_cols()});
  visit(a.k, Shape{n, shape.kv_cols()});
}
template <typename Activations, typename Visit>
void visit_products(Activations& a, const ops::AttentionShape& shape, int64_t f, DType act,
                    const Visit& visit) {
  const int64_t n = shape.tokens();
  visit(a.qkv, Shape{n, shape.qkv_cols()}, act);
  visit(a.attn_out, Shape{n, shape.q_cols()}, act);
  visit(a.lse, Shape{shape.batch, shape.num_heads, shape.seq_len}, DType::f32);
  visit(a.gate_up, Shape{n, 2 * f}, act);
}

}  // namespace

void Qwen3::plan_memory(Arena& arena) {
  const int64_t n = options_.micro_batch * options_.seq_len, d = config_.hidden_size;
  const DType act = options_.activations;
  arena.plan(Purpose::parameters, &parameters_, {options_.block_size});
  if (act != DType::f32) arena.plan(Purpose::parameters, &compute_parameters_, {options_.block_size}, act);
  if (options_.training) arena.plan(Purpose::gradients, &gradients_, {options_.block_size});

  states_.resize(plan_.num_sublayers() + 1);
  for (Tensor& state : states_) arena.plan(Purpose::states, &state, {n, d}, act);

  traces_.resize(reads_.size());
  for (size_t i = 0; i < reads_.size(); ++i) {
    const int64_t sources = reads_[i].num_sources();
    arena.plan(Purpose::routing, &traces_[i].weights, {n, sources});
    arena.plan(Purpose::routing, &traces_[i].inv_rms, {n, sources});
    arena.plan(Purpose::routing, &traces_[i].dots, {n, sources});
    arena.plan(Purpose::routing, &traces_[i].rstd, {n});
  }
  plan_activations(arena);
  arena.plan(Purpose::activations, &rope_, {options_.seq_len, config_.head_dim});
  arena.plan(Purpose::activations, &final_hidden_, {n, d}, act);
  arena.plan(Purpose::batch, &nll_, {n});
  arena.plan(Purpose::batch, &tokens_, {n}, DType::i32);
  if (options_.interventions) plan_scratch(arena);

  const Device device = arena.device();
  int64_t floats = std::max(ops::attention_workspace(device, act, attention_shape(options_.micro_batch)),
                            ops::cross_entropy_workspace(device, act, n, config_.vocab_size));
  for (const int64_t batch : options_.smaller_batches)
    floats = std::max(floats, ops::attention_workspace(device, act, attention_shape(batch)));
  if (options_.training) {
    plan_backward(arena);
    floats = std::max(floats, ops::routing_backward_workspace(device, d));
  }
  arena.plan(Purpose::workspace, &workspace_, {floats});
}

ops::AttentionNotes Qwen3::attention_notes() const {
  return ops::attention_notes(device(), options_.activations, attention_shape(options_.micro_batch));
}

void Qwen3::plan_activations(Arena& arena) {
  const ops::AttentionShape shape = attention_shape(options_.micro_batch);
  const int64_t d = config_.hidden_size, f = config_.intermediate_size;
  const DType act = options_.activations;
  const auto plan = [&](Tensor& tensor, Shape extents, DType dtype) {
    arena.plan(Purpose::activations, &tensor, extents, dtype);
  };
  const auto plan_act = [&](Tensor& tensor, Shape extents) { plan(tensor, extents, act); };
  activations_.resize(plan_.num_layers);
  for (LayerActivations& layer : activations_) {
    if (keeps_norms()) visit_reads(layer, shape, d, plan_act);
    if (keeps_norms()) visit_norms(layer, shape, plan_act);
    if (keeps_layers()) visit_products(layer, shape, f, act, plan);
    if (keeps_act()) plan_act(layer.act, {shape.tokens(), f});
  }
  if (!options_.training) visit_reads(shared_, shape, d, plan_act);
  if (!keeps_norms()) visit_norms(shared_, shape, plan_act);
  if (!keeps_layers()) visit_products(shared_, shape, f, act, plan);
  // The scratch of attention and that of an MLP lie in the same memory: bind_scratch().
  int64_t columns = keeps_act() ? 0 : f;
  if (options_.training)
    columns = std::max(columns + f, shape.qkv_cols() + 2 * shape.q_cols() + shape.kv_cols());
  arena.plan(Purpose::workspace, &sublayer_scratch_, {shape.tokens(), columns}, act);
}

void Qwen3::plan_backward(Arena& arena) {
  const ops::AttentionShape shape = attention_shape(options_.micro_batch);
  const int64_t n = shape.tokens(), d = config_.hidden_size;
  const DType act = options_.activations;
  int places = 1;
  for (const SiteGroup& sites : groups_) places = std::max(places, sites.count);
  if (options_.overlap) {
    places = kMaxGroupSites + 1;
    arena.plan(Purpose::workspace, &side_workspace_, {ops::routing_backward_workspace(arena.device(), d)});
  }

  // The backward pass of a group reads the outputs of all its sites again.
  group_outputs_.resize(keeps_norms() ? 0 : places);
  for (Tensor& output : group_outputs_) arena.plan(Purpose::activations, &output, {n, d}, act);
  arena.plan(Purpose::routing, &inverse_norms_, {static_cast<int64_t>(reads_.size()), d});
  projections_.resize(places);
  dinputs_.resize(places);
  if (options_.group_reads != GroupReads::none) partial_lses_.resize(places);
  for (Tensor& lse : partial_lses_) arena.plan(Purpose::routing, &lse, {n});
  for (Tensor& projection : projections_) arena.plan(Purpose::routing, &projection, {n});
  for (Tensor& dinput : dinputs_) arena.plan(Purpose::workspace, &dinput, {n, d}, act);

  for (int i = 0; i < kMaxGroupSites; ++i) {
    arena.plan(Purpose::workspace, &norm_partials_[i], {ops::reduction_workspace(arena.device(), d)});
    if (config_.qk_norm)
      arena.plan(Purpose::workspace, &qk_partials_[i],
                 {ops::reduction_workspace(arena.device(), 2 * config_.head_dim)});
  }
  unfinished_.reserve(3 * kMaxGroupSites);

  logit_gradients_.resize(reads_.size());
  for (size_t i = 0; i < reads_.size(); ++i)
    if (options_.logit_gradients && reads_[i].num_sources() > 1)
      arena.plan(Purpose::routing, &logit_gradients_[i], {n, reads_[i].num_sources()});

  state_gradients_.resize(plan_.num_gradient_slots);
  for (Tensor& gradient : state_gradients_) arena.plan(Purpose::state_gradients, &gradient, {n, d}, act);
}

void Qwen3::bind_scratch() {
  const ops::AttentionShape shape = attention_shape(options_.micro_batch);
  const int64_t n = shape.tokens(), f = config_.intermediate_size;
  const Tensor all = sublayer_scratch_.reshape({sublayer_scratch_.numel()});
  int64_t taken = 0;
  const auto take = [&](Tensor& tensor, int64_t columns) {
    tensor = all.slice(taken, taken + n * columns).reshape({n, columns});
    taken += n * columns;
  };
  if (!keeps_act()) take(shared_.act, f);
  if (!options_.training) return;
  take(dact_, f);
  taken = 0;
  take(dqkv_, shape.qkv_cols());
  take(dq_, shape.q_cols());
  take(dk_, shape.kv_cols());
  take(dattn_, shape.q_cols());
}

void Qwen3::bind_activations() {
  bind_scratch();
  const auto share = [](Tensor& tensor, const Tensor& common) { tensor = common; };
  for (int s = 0; s < plan_.num_sublayers() && !keeps_norms(); ++s) {
    const Site& site = plan_.sites[s];
    LayerActivations& layer = activations_[site.layer];
    const bool attn = site.sublayer == Sublayer::attn;
    const Tensor& common = attn ? shared_.attn_in : shared_.mlp_in;
    share(attn ? layer.attn_in : layer.mlp_in, options_.training ? group_outputs_[place(s)] : common);
  }
  for (LayerActivations& layer : activations_) {
    if (!keeps_norms()) {
      share(layer.q, shared_.q);
      share(layer.k, shared_.k);
    }
    if (!keeps_layers()) {
      share(layer.qkv, shared_.qkv);
      share(layer.attn_out, shared_.attn_out);
      share(layer.lse, shared_.lse);
      share(layer.gate_up, shared_.gate_up);
    }
    if (!keeps_act()) share(layer.act, shared_.act);
  }
}

void Qwen3::bind_weights(const Tensor& matrices, const Tensor& others, std::vector<LayerWeights>& layers,
                         std::vector<ReadWeights>& reads) const {
  const auto matrix = [&](const std::string& name) { return layout_.view(matrices, name); };
  const auto view = [&](const std::string& name) { return layout_.view(others, name); };
  const auto view_if_any = [&](const std::string& name) {
    return layout_.contains(name) ? view(name) : Tensor{};
  };
  // Consecutive parameters without padding between them, read as one matrix of more rows.
  const auto fused = [&](const std::string& first, const std::string& last) {
    const Parameter &begin = layout_.find(first), &end = layout_.find(last);
    const int64_t cols = begin.shape[1], size = end.offset + end.numel() - begin.offset;
    return matrices.slice(begin.offset, begin.offset + size).reshape({div_exact(size, cols), cols});
  };
  for (int i = 0; i < plan_.num_layers; ++i) {
    const std::string layer = fmt::format("model.layers.{}.", i), attn = layer + "self_attn.",
                      mlp = layer + "mlp.";
    layers.push_back(
        {view(layer + "input_layernorm.weight"), fused(attn + "q_proj.weight", attn + "v_proj.weight"),
         view_if_any(attn + "q_norm.weight"), view_if_any(attn + "k_norm.weight"),
         matrix(attn + "o_proj.weight"), view(layer + "post_attention_layernorm.weight"),
         fused(mlp + "gate_proj.weight", mlp + "up_proj.weight"), matrix(mlp + "down_proj.weight")});
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

void Qwen3::bind(Stream stream) {
  if (bound_) return;
  DR_CHECK_MSG(parameters_.defined(), "Qwen3 used before Arena::allocate");
  bind_activations();
  bind_weights(matrices(), parameters_, weights_, read_weights_);
  if (options_.training) bind_weights(gradients_, gradients_, weight_gradients_, read_gradients_);
  ops::rope_table(stream, config_.rope_theta, rope_);
  publish(stream);
  if (options_.overlap) side_ = std::make_unique<SideStream>(stream.device);
  bound_ = true;
}

void Qwen3::publish(Stream stream) {
  if (compute_parameters_.defined())
    ops::cast(stream, parameters_.slice(0, layout_.matrices_size()),
              compute_parameters_.slice(0, layout_.matrices_size()));
}

}  // namespace depthroute
