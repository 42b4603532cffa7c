#include "tests/eval/planted/planted_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "configs/base/check.h"
#include "data/model/model_folder.h"
#include "eval/analysis/coefficients.h"

namespace depthroute {
namespace {

/// What a norm multiplies a state by: all but the constant is too small to count.
const double kNorm = std::sqrt(96.0) / PlantedModel::kAmount;
constexpr double kGate = 8;                            // what every gate of an MLP reads
const double kGated = kGate / (1 + std::exp(-kGate));  // and what SiLU makes of it
constexpr float kSharpness = 100;                      // of attention: nothing of any other position is left

ModelConfig planted_shape(Variant variant, int layers) {
  ModelConfig config;
  config.vocab_size = PlantedModel::kVocab;
  config.hidden_size = 96;
  config.num_layers = layers;
  config.num_heads = config.num_kv_heads = 1;
  config.head_dim = config.intermediate_size = 64;
  config.rope_theta = 1e4;
  config.tie_embeddings = false;
  config.residual.variant = variant;
  config.residual.sublayers_per_block = 2;
  return config;
}

}  // namespace

PlantedModel::PlantedModel(Variant variant, int layers)
    : config_(planted_shape(variant, layers)),
      plan_(make_depth_plan(config_)),
      layout_(config_, plan_),
      outputs_(outputs_of_states(plan_)),
      links_(static_cast<size_t>(plan_.num_sublayers())),
      silent_(static_cast<size_t>(plan_.num_sublayers())),
      values_(static_cast<size_t>(layout_.block_size()), 0.0f) {
  DR_CHECK(tag(plan_.num_sublayers()) < kChannels);
  fill_constants();
  for (int s = 0; s < plan_.num_sublayers(); ++s)
    if (plan_.sites[s].restart) write(s, kConstant, kConstant, 1);
  for (const Site& site : plan_.sites)
    weights_.emplace_back(site.sources.size(), 1.0 / static_cast<double>(site.sources.size()));
  if (!plan_.has_final_site()) return;
  std::vector<double>& last = weights_.back();
  std::ranges::fill(last, 0.0);
  last.back() = 1;
  *parameter("model.final_res_bias") = 40;
}

void PlantedModel::fill_constants() {
  for (const Parameter& p : layout_.all())
    if (p.init == Init::ones) std::fill_n(parameter(p.name), p.numel(), 1.0f);
  for (int t = 0; t < kVocab; ++t) {
    float* const row = parameter("model.embed_tokens.weight") + t * kChannels;
    row[token(t)] = row[tag(0)] = 1;
    row[kConstant] = static_cast<float>(kAmount);
    parameter("lm_head.weight")[t * kChannels + answer(t)] = static_cast<float>(1 / kNorm);
  }
  for (int layer = 0; layer < config_.num_layers; ++layer) {
    const std::string attention = fmt::format("model.layers.{}.self_attn.", layer);
    for (const char* name : {"q", "k"}) {
      std::fill_n(parameter(attention + name + "_norm.weight"), kSlots, kSharpness);
      for (int i = 0; i < kSlots; ++i)
        parameter(attention + name + "_proj.weight")[i * kChannels + kConstant] = 1;
    }
  }
}

std::string PlantedModel::read_name(int site, const char* what) const {
  const Site& read = plan_.sites[site];
  if (read.sublayer == Sublayer::final) return fmt::format("model.final_res_{}", what);
  return fmt::format("model.layers.{}.{}_res_{}", read.layer, to_string(read.sublayer), what);
}

void PlantedModel::weigh(int site, const std::vector<double>& weights) {
  const Site& read = plan_.sites[site];
  DR_CHECK(weights.size() == read.sources.size());
  float* const query = parameter(read_name(site, "proj.weight"));
  float* const bias = parameter(read_name(site, "bias"));
  std::map<int, double> logit_of_tag;
  *bias = 0;
  for (size_t j = 0; j < weights.size(); ++j) {
    // A state's last output is in no earlier source: its tag makes up for what the others' tags give.
    double logit = std::log(weights[j]);
    for (const int output : outputs_[read.sources[j]])
      if (logit_of_tag.contains(output)) logit -= logit_of_tag[output];
    if (read.duplicate_of[j] >= 0) {
      *bias = static_cast<float>(logit);
      continue;
    }
    logit_of_tag[read.sources[j]] = logit;
    query[tag(read.sources[j])] = static_cast<float>(logit / kNorm);
  }
  weights_[site] = weights;
}

void PlantedModel::weigh_states(int site, const std::map<int, double>& by_state) {
  std::vector<double> weights(plan_.sites[site].sources.size(), 0.0);
  double rest = 1;
  for (const auto& [state, weight] : by_state) {
    weights[source_of(site, state)] = weight;
    rest -= weight;
  }
  for (double& weight : weights)
    if (weight == 0) weight = rest / static_cast<double>(weights.size() - by_state.size());
  weigh(site, weights);
}

void PlantedModel::steer(int site, int channel, double slope) {
  parameter(read_name(site, "proj.weight"))[channel] += static_cast<float>(slope / kNorm);
}

void PlantedModel::write(int sublayer, int from, int to, double gain) {
  links_[sublayer].push_back({from, to, gain});
}

void PlantedModel::write_tokens(int sublayer, int (*from)(int), int (*to)(int), double gain, int shift) {
  for (int t = 0; t < kVocab; ++t) write(sublayer, from(t), to((t + shift) % kVocab), gain);
}

void PlantedModel::silence(int sublayer) { silent_[sublayer] = true; }

void PlantedModel::attend_to_all(int layer) {
  for (const char* name : {"q", "k"})
    std::fill_n(parameter(fmt::format("model.layers.{}.self_attn.{}_norm.weight", layer, name)), kSlots,
                0.0f);
}

int PlantedModel::source_of(int site, int state) const {
  const std::vector<int>& sources = plan_.sites[site].sources;
  const auto found = std::ranges::find(sources.rbegin(), sources.rend(), state);
  DR_CHECK(found != sources.rend());
  return static_cast<int>(sources.rend() - found) - 1;
}

double PlantedModel::weight(int site, int source) const { return weights_[site][source]; }

double PlantedModel::coefficient(int site, int output) const {
  double sum = 0;
  for (size_t j = 0; j < weights_[site].size(); ++j)
    sum += weights_[site][j] *
           static_cast<double>(std::ranges::count(outputs_[plan_.sites[site].sources[j]], output));
  return sum;
}

void PlantedModel::fill_attention(int layer, const std::vector<Link>& links) {
  const std::string name = fmt::format("model.layers.{}.self_attn.", layer);
  float *const value = parameter(name + "v_proj.weight"), *const out = parameter(name + "o_proj.weight");
  for (size_t i = 0; i < links.size(); ++i) {
    value[i * kChannels + static_cast<size_t>(links[i].from)] = 1;
    out[static_cast<size_t>(links[i].to) * kSlots + i] = static_cast<float>(links[i].gain / kNorm);
  }
}

void PlantedModel::fill_mlp(int layer, const std::vector<Link>& links) {
  const std::string name = fmt::format("model.layers.{}.mlp.", layer);
  float *const gate = parameter(name + "gate_proj.weight"), *const up = parameter(name + "up_proj.weight"),
               *const down = parameter(name + "down_proj.weight");
  for (size_t i = 0; i < links.size(); ++i) {
    gate[i * kChannels + kConstant] = static_cast<float>(kGate / (kNorm * kAmount));
    up[i * kChannels + static_cast<size_t>(links[i].from)] = 1;
    down[static_cast<size_t>(links[i].to) * kSlots + i] =
        static_cast<float>(links[i].gain / (kNorm * kGated));
  }
}

void PlantedModel::save(const std::string& folder) const {
  PlantedModel filled = *this;
  for (int s = 0; s < plan_.num_sublayers(); ++s) {
    if (silent_[s]) continue;
    std::vector<Link> links = links_[s];
    links.push_back({kConstant, tag(s + 1), 1 / kAmount});
    DR_CHECK(links.size() <= kSlots);
    if (s % 2 == 0)
      filled.fill_attention(s / 2, links);
    else
      filled.fill_mlp(s / 2, links);
  }
  std::vector<TensorToWrite> tensors;
  for (const Parameter& p : layout_.all())
    tensors.push_back({p.name, p.shape.extents(),
                       std::span<const float>(filled.parameter(p.name), static_cast<size_t>(p.numel()))});
  write_model_folder(folder, config_, tensors);
}

}  // namespace depthroute
