#include "data/model/fla.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "data/model/config_keys.h"

namespace depthroute {
namespace {

constexpr double kQkNormEps = 1e-5;  // the default of its RMSNorm, which its attention does not change

/// int(hidden * ratio * 2 / 3), rounded up to a multiple of 256.
int64_t default_intermediate_size(const ConfigKeys& keys, int64_t hidden_size) {
  const int64_t ratio = keys.find("hidden_ratio") != nullptr ? keys.count("hidden_ratio") : 4;
  return (hidden_size * ratio * 2 / 3 + 255) / 256 * 256;
}

void refuse_unsupported(const ConfigKeys& keys) {
  if (keys.find("qkv_bias") != nullptr && keys.truth("qkv_bias"))
    keys.fail("qkv_bias", "projections with biases are not supported");
  if (keys.find("window_size") != nullptr)
    keys.fail("window_size", "sliding-window attention is not supported");
  if (keys.find("hidden_act") != nullptr && keys.text("hidden_act") != "swish")
    keys.fail("hidden_act", "only swish is supported");
  if (keys.find("quantization_config") != nullptr)
    keys.fail("quantization_config", "quantised weights are not supported; use the BF16 or F32 model");
  for (const char* key : {"rope_scaling", "rope_parameters"})
    if (keys.find(key) != nullptr) keys.fail(key, "its attention has plain RoPE with rope_theta alone");
  if (keys.find("attnres_block_size") != nullptr) {
    const int64_t size = keys.count("attnres_block_size");
    if (size != 1 && (size < 2 || size % 2 != 0))
      keys.fail("attnres_block_size", "must be 1 or even: it counts sublayers");
  }
}

}  // namespace

std::string why_not_fla(const ModelConfig& config) {
  const Variant variant = config.residual.variant;
  if (variant != Variant::additive && variant != Variant::kimi)
    return fmt::format("its AttnRes is kimi, and this model's variant is {}", to_string(variant));
  if (config.num_heads * config.head_dim != config.hidden_size)
    return fmt::format("its head_dim is hidden_size / num_heads, and {} / {} is not head_dim = {}",
                       config.hidden_size, config.num_heads, config.head_dim);
  const int64_t sublayers = config.sublayers_per_block();
  if (variant == Variant::kimi && sublayers != 1 && sublayers % 2 != 0)
    return fmt::format("its blocks end behind whole layers or behind every sublayer, not every {} sublayers",
                       sublayers);
  if (config.qk_norm && config.rms_norm_eps != kQkNormEps)
    return fmt::format("it normalises q and k with eps {}, and rms_norm_eps is {}", kQkNormEps,
                       config.rms_norm_eps);
  return "";
}

std::string fla_config_to_json(const ModelConfig& config, bool bf16, const KeptKeys& keys) {
  nlohmann::ordered_json root = {{"architectures", {"TransformerForCausalLM"}},
                                 {"model_type", kFlaType},
                                 {"vocab_size", config.vocab_size},
                                 {"hidden_size", config.hidden_size},
                                 {"num_hidden_layers", config.num_layers},
                                 {"num_heads", config.num_heads},
                                 {"num_kv_heads", config.num_kv_heads},
                                 {"intermediate_size", config.intermediate_size},
                                 {"hidden_act", "swish"},
                                 {"qkv_bias", false},
                                 {"qk_norm", config.qk_norm},
                                 {"window_size", nullptr},
                                 {"rope_theta", config.rope_theta},
                                 {"norm_eps", config.rms_norm_eps},
                                 {"initializer_range", 0.02},
                                 {"tie_word_embeddings", config.tie_embeddings},
                                 {"use_cache", true},
                                 {"torch_dtype", bf16 ? "bfloat16" : "float32"}};
  // Absent ids would become 1 and 2, its defaults.
  for (const char* key : {"bos_token_id", "eos_token_id", "pad_token_id"}) root[key] = nullptr;
  for (const auto& [key, value] : keys) root[key] = nlohmann::ordered_json::parse(value);
  root["attnres_block_size"] = nullptr;
  if (config.residual.variant != Variant::additive) root["attnres_block_size"] = config.sublayers_per_block();
  return root.dump(2) + "\n";
}

ModelConfig fla_config_from_json(const std::string& text, const std::string& where) {
  const nlohmann::json root = parse_json_object(text, where);
  const ConfigKeys keys(root, where);
  if (keys.text("model_type") != kFlaType)
    keys.fail("model_type", "only transformer is flash-linear-attention's");
  refuse_unsupported(keys);
  ModelConfig config;
  config.vocab_size = keys.count("vocab_size");
  config.hidden_size = keys.count("hidden_size");
  config.num_layers = keys.count("num_hidden_layers");
  config.num_heads = keys.count("num_heads");
  config.num_kv_heads = keys.find("num_kv_heads") != nullptr ? keys.count("num_kv_heads") : config.num_heads;
  if (config.num_heads < 1 || config.hidden_size % config.num_heads != 0)
    keys.fail("num_heads", fmt::format("hidden_size = {} is not a multiple of it", config.hidden_size));
  config.head_dim = config.hidden_size / config.num_heads;
  config.intermediate_size = keys.find("intermediate_size") != nullptr
                                 ? keys.count("intermediate_size")
                                 : default_intermediate_size(keys, config.hidden_size);
  config.rope_theta = keys.number("rope_theta");
  config.rms_norm_eps = keys.number("norm_eps");
  config.tie_embeddings = keys.truth("tie_word_embeddings");
  config.qk_norm = keys.truth("qk_norm");
  const bool routed = keys.find("attnres_block_size") != nullptr;
  config.residual.variant = routed ? Variant::kimi : Variant::additive;
  if (routed) config.residual.sublayers_per_block = keys.count("attnres_block_size");
  if (const std::string problem = config.problem(); !problem.empty())
    throw DataError("{}: impossible model: {}", where, problem);
  if (const std::string reason = why_not_fla(config); !reason.empty())
    throw DataError("{}: cannot be computed here as there: {}", where, reason);
  return config;
}

std::string fla_name(const std::string& name) {
  if (name.ends_with("_res_bias")) return "";
  static const std::pair<const char*, const char*> kWhole[] = {
      {"model.embed_tokens.weight", "model.embeddings.weight"},
      {"model.final_res_proj.weight", "model.res_proj.weight"},
      {"model.final_res_norm.weight", "model.res_norm.weight"}};
  for (const auto& [ours, theirs] : kWhole)
    if (name == ours) return theirs;
  static const std::pair<std::string, std::string> kParts[] = {{".self_attn.", ".attn."},
                                                               {".input_layernorm.", ".attn_norm."},
                                                               {".post_attention_layernorm.", ".mlp_norm."}};
  for (const auto& [ours, theirs] : kParts)
    if (const size_t at = name.find(ours); at != std::string::npos)
      return name.substr(0, at) + theirs + name.substr(at + ours.size());
  return name;
}

}  // namespace depthroute
