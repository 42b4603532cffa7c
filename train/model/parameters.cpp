#include "train/model/parameters.h"

#include <fmt/format.h>

#include <algorithm>

#include "configs/base/random.h"
#include "kernels/ops/ops.h"

namespace depthroute {

namespace {

constexpr int64_t kGroupAlignment = 64;  // elements: 256 bytes of float32
constexpr double kInitStd = 0.02;        // train/model/SPEC.md §2

struct Builder {
  std::vector<Parameter>& parameters;
  int64_t& end;

  /// `fused` continues the matrix of the parameter before it: no padding between them.
  void add(std::string name, Shape shape, Init init, bool decay, bool fused = false) {
    if (!fused) end = round_up(end, kGroupAlignment);
    parameters.push_back({std::move(name), shape, end, init, decay});
    end += shape.numel();
  }
  void matrix(std::string name, int64_t rows, int64_t cols, bool fused = false) {
    add(std::move(name), {rows, cols}, Init::normal, true, fused);
  }
  void norm(std::string name, int64_t size) { add(std::move(name), {size}, Init::ones, false); }
  void qk_norms(const std::string& attn, int64_t head_dim) {
    norm(attn + "q_norm.weight", head_dim);
    norm(attn + "k_norm.weight", head_dim);
  }
  void routing(const std::string& prefix, int64_t hidden_size) {
    add(prefix + "_proj.weight", {1, hidden_size}, Init::zeros, false);
    norm(prefix + "_norm.weight", hidden_size);
    add(prefix + "_bias", {}, Init::recency_bias, false);
  }
};

}  // namespace

ParameterLayout::ParameterLayout(const ModelConfig& config, const DepthPlan& plan) {
  Builder build{parameters_, block_size_};
  const int64_t d = config.hidden_size, f = config.intermediate_size;
  const int64_t q_rows = config.num_heads * config.head_dim, kv_rows = config.num_kv_heads * config.head_dim;
  // Parameters with weight decay first, then the others: the optimizer sees two ranges.
  build.matrix("model.embed_tokens.weight", config.vocab_size, d);
  if (!config.tie_embeddings) build.matrix("lm_head.weight", config.vocab_size, d);
  for (int64_t i = 0; i < config.num_layers; ++i) {
    const std::string layer = fmt::format("model.layers.{}.", i);
    build.matrix(layer + "self_attn.q_proj.weight", q_rows, d);
    build.matrix(layer + "self_attn.k_proj.weight", kv_rows, d, true);
    build.matrix(layer + "self_attn.v_proj.weight", kv_rows, d, true);
    build.matrix(layer + "self_attn.o_proj.weight", d, q_rows);
    build.matrix(layer + "mlp.gate_proj.weight", f, d);
    build.matrix(layer + "mlp.up_proj.weight", f, d, true);
    build.matrix(layer + "mlp.down_proj.weight", d, f);
  }
  block_size_ = matrices_size_ = round_up(block_size_, kGroupAlignment);
  for (int64_t i = 0; i < config.num_layers; ++i) {
    const std::string layer = fmt::format("model.layers.{}.", i);
    build.norm(layer + "input_layernorm.weight", d);
    build.norm(layer + "post_attention_layernorm.weight", d);
    if (config.qk_norm) build.qk_norms(layer + "self_attn.", config.head_dim);
    if (plan.sites[2 * i].routed) build.routing(layer + "attn_res", d);
    if (plan.sites[2 * i + 1].routed) build.routing(layer + "mlp_res", d);
  }
  if (plan.has_final_site()) build.routing("model.final_res", d);
  build.norm("model.norm.weight", d);
  block_size_ = round_up(block_size_, kGroupAlignment);
  for (size_t i = 0; i < parameters_.size(); ++i) index_[parameters_[i].name] = i;
  layers_begin_ = layer_begin(0);
}

const Parameter& ParameterLayout::find(const std::string& name) const {
  const auto found = index_.find(name);
  DR_CHECK_MSG(found != index_.end(), name.c_str());
  return parameters_[found->second];
}

int64_t ParameterLayout::layer_begin(int layer) const {
  return find(fmt::format("model.layers.{}.self_attn.q_proj.weight", layer)).offset;
}

bool ParameterLayout::contains(const std::string& name) const { return index_.count(name) != 0; }

int64_t ParameterLayout::num_parameters() const {
  int64_t total = 0;
  for (const Parameter& parameter : parameters_) total += parameter.numel();
  return total;
}

Tensor ParameterLayout::view(const Tensor& block, const Parameter& parameter) const {
  Tensor view = block.slice(parameter.offset, parameter.offset + parameter.numel());
  view.shape = parameter.shape;
  return view;
}

void initialize_parameters(const ParameterLayout& layout, uint64_t seed, double recency_bias,
                           const Tensor& block) {
  const Stream stream = make_stream(block.device);
  ops::zero(stream, block);
  std::vector<float> values;
  for (const Parameter& parameter : layout.all()) {
    const Tensor view = layout.view(block, parameter);
    switch (parameter.init) {
      case Init::zeros:
        break;
      case Init::ones:
        ops::fill(stream, view, 1.0f);
        break;
      case Init::recency_bias:
        ops::fill(stream, view, static_cast<float>(recency_bias));
        break;
      case Init::normal: {
        const uint64_t key = stream_key(seed, parameter.name);
        const int64_t count = parameter.numel(), pairs = div_ceil(count, 2);
        values.resize(2 * pairs);
#pragma omp parallel for schedule(static)
        for (int64_t pair = 0; pair < pairs; ++pair) {
          const auto [first, second] = random_normal_pair(key, static_cast<uint64_t>(pair));
          values[2 * pair] = static_cast<float>(kInitStd * first);
          values[2 * pair + 1] = static_cast<float>(kInitStd * second);
        }
        ops::copy(stream, host_tensor(values.data(), parameter.shape), view);
        synchronize(stream);  // `values` is reused
        break;
      }
    }
  }
  synchronize(stream);
}

}  // namespace depthroute
