// config.json of a model folder: the keys of Qwen3 and Llama in both spellings of transformers (4.x:
// rope_theta, torch_dtype; 5.x: rope_parameters, dtype), and those of Block AttnRes (train/model/SPEC.md §2). A
// key that would change the model's numbers and is not supported is an error, never ignored.
#include <algorithm>
#include <cmath>
#include <optional>

#include "configs/base/error.h"
#include "data/json.h"
#include "data/model/config_keys.h"
#include "data/model/fla.h"
#include "data/model/model_folder.h"
#include "data/model/other_code.h"

namespace depthroute {
namespace {

using nlohmann::json;

using Keys = ConfigKeys;

/// Accepts only plain RoPE. Returns the theta it states, if it does.
std::optional<double> theta_of_rope_object(const Keys& keys, const std::string& key) {
  const json* rope = keys.find(key);
  if (rope == nullptr) return std::nullopt;
  if (!rope->is_object()) keys.fail(key, "must be an object or null");
  for (const char* name : {"rope_type", "type"})
    if (rope->contains(name) && rope->at(name) != "default")
      keys.fail(key, "only plain RoPE (rope_type default) is supported");
  std::optional<double> theta;
  for (const auto& [name, value] : rope->items()) {
    if (name == "rope_type" || name == "type") continue;
    if (name == "rope_theta") {
      if (!value.is_number()) keys.fail(key, "rope_theta must be a number");
      theta = value.get<double>();
    } else if (name == "partial_rotary_factor") {
      if (value != 1.0) keys.fail(key, "only a full rotation (partial_rotary_factor 1) is supported");
    } else {
      keys.fail(key, "holds " + quote(name) + ", which plain RoPE does not have");
    }
  }
  return theta;
}

double read_rope_theta(const Keys& keys) {
  const std::optional<double> scaled = theta_of_rope_object(keys, "rope_scaling");
  std::optional<double> theta = theta_of_rope_object(keys, "rope_parameters");
  if (!theta) theta = scaled;
  if (keys.find("rope_theta") == nullptr && theta) return *theta;
  const double stated = keys.number("rope_theta");
  if (theta && *theta != stated)
    keys.fail("rope_theta", fmt::format("rope_parameters says {}; keep one", *theta));
  return stated;
}

bool is_llama(const Keys& keys) { return keys.text("model_type") == "llama"; }

bool has_attnres_keys(const Keys& keys) {
  if (keys.text("model_type") == "qwen3_attnres") return true;
  for (const auto& [key, value] : keys.root().items())
    if (key.rfind("attnres_", 0) == 0 && !value.is_null()) return true;
  return false;
}

/// What Llama's class has beyond Qwen3's, and what other models derived from it say under its name.
void refuse_unsupported_llama(const Keys& keys) {
  if (keys.find("mlp_bias") != nullptr && keys.truth("mlp_bias"))
    keys.fail("mlp_bias", "projections with biases are not supported");
  if (keys.find("pretraining_tp") != nullptr && keys.count("pretraining_tp") != 1)
    keys.fail("pretraining_tp", "only 1 is supported: it changes how products are rounded");
  const bool unused = keys.find("use_sliding_window") != nullptr && !keys.truth("use_sliding_window");
  if (keys.find("sliding_window") != nullptr && !unused)
    keys.fail("sliding_window", "sliding-window attention is not supported");
  if (has_attnres_keys(keys))
    keys.fail("model_type", "with keys of AttnRes it must be qwen3_attnres, with \"attnres_qk_norm\": false");
}

void refuse_unsupported(const Keys& keys) {
  const std::string type = keys.text("model_type");
  if (type == kFlaType)
    keys.fail("model_type", "a model of flash-linear-attention: use depthroute-convert import first");
  if (type != "qwen3" && type != "qwen3_attnres" && type != "llama" && type != kDepthrouteType)
    keys.fail("model_type", "only qwen3, qwen3_attnres and llama are supported");
  if (type == kDepthrouteType) (void)keys.text("attnres_variant");
  if (is_llama(keys)) refuse_unsupported_llama(keys);
  if (keys.find("hidden_act") != nullptr && keys.text("hidden_act") != "silu")
    keys.fail("hidden_act", "only silu is supported");
  if (keys.find("attention_bias") != nullptr && keys.truth("attention_bias"))
    keys.fail("attention_bias", "projections with biases are not supported");
  if (keys.find("attention_dropout") != nullptr && keys.number("attention_dropout") != 0)
    keys.fail("attention_dropout", "dropout is not supported; set 0");
  if (keys.find("partial_rotary_factor") != nullptr && keys.number("partial_rotary_factor") != 1)
    keys.fail("partial_rotary_factor", "only a full rotation is supported");
  if (keys.find("quantization_config") != nullptr)
    keys.fail("quantization_config", "quantised weights are not supported; use the BF16 or F32 model");
  if (keys.find("use_sliding_window") != nullptr && keys.truth("use_sliding_window") &&
      keys.find("sliding_window") != nullptr)
    keys.fail("use_sliding_window", "sliding-window attention is not supported");
  if (const json* layers = keys.find("layer_types")) {
    if (!layers->is_array()) keys.fail("layer_types", "must be a list");
    for (const json& layer : *layers)
      if (layer != "full_attention") keys.fail("layer_types", "only full_attention is supported");
  }
}

/// Keys of the open AttnRes code and ours. Old checkpoints' attnres_init_bias and attnres_gate_init are read
/// by nothing.
void refuse_unknown_attnres(const Keys& keys) {
  static const char* const kKnown[] = {
      "attnres_mode",      "attnres_num_blocks", "attnres_recency_bias_init",
      "attnres_gate_type", "attnres_variant",    "attnres_sublayers_per_block",
      "attnres_init_bias", "attnres_gate_init",  "attnres_qk_norm"};
  for (const auto& [key, value] : keys.root().items()) {
    if (key.rfind("attnres_", 0) != 0 || value.is_null() || value == false) continue;
    bool known = false;
    for (const char* name : kKnown) known = known || key == name;
    if (!known) keys.fail(key, "this key may change what the model computes and is not supported");
  }
}

/// Returns whether the variant is stated.
bool read_residual(const Keys& keys, ResidualConfig& residual) {
  if (!has_attnres_keys(keys)) {
    residual.variant = Variant::additive;
    return true;
  }
  refuse_unknown_attnres(keys);
  if (keys.find("attnres_gate_type") != nullptr && keys.text("attnres_gate_type") != "bias")
    keys.fail("attnres_gate_type", "only the gate type bias is supported");
  const bool stated = keys.find("attnres_variant") != nullptr;
  if (stated) {
    const auto variant = parse<Variant>(keys.text("attnres_variant"));
    if (!variant)
      keys.fail("attnres_variant", fmt::format("must be one of {}", fmt::join(names<Variant>(), ", ")));
    residual.variant = *variant;
  }
  if (keys.find("attnres_recency_bias_init") != nullptr)
    residual.recency_bias = keys.number("attnres_recency_bias_init");
  if (keys.find("attnres_sublayers_per_block") != nullptr)
    residual.sublayers_per_block = keys.count("attnres_sublayers_per_block");
  const std::string mode = keys.find("attnres_mode") != nullptr ? keys.text("attnres_mode") : "block";
  if (mode != "block" && mode != "full") keys.fail("attnres_mode", "only block and full are supported");
  if (mode == "full") {  // one block per sublayer
    if (residual.sublayers_per_block > 1)
      keys.fail("attnres_mode", "attnres_sublayers_per_block contradicts it");
    residual.sublayers_per_block = 1;
  }
  if (residual.variant == Variant::additive && stated) return true;
  if (residual.sublayers_per_block == 0 || keys.find("attnres_num_blocks") != nullptr)
    residual.num_blocks = keys.count("attnres_num_blocks");
  return stated;
}

bool read_qk_norm(const Keys& keys) {
  if (is_llama(keys)) return false;
  return keys.find("attnres_qk_norm") == nullptr || keys.truth("attnres_qk_norm");
}

int64_t read_head_dim(const Keys& keys, const ModelConfig& config) {
  if (keys.find("head_dim") != nullptr) return keys.count("head_dim");
  // Qwen3's class default is 128 whatever the shape; Llama and the open AttnRes code mean hidden / heads.
  if (!has_attnres_keys(keys) && !is_llama(keys)) return keys.count("head_dim");
  if (config.num_heads < 1 || config.hidden_size % config.num_heads != 0)
    throw DataError(
        "{}: the key \"head_dim\" is missing and hidden_size = {} is not a multiple of "
        "num_attention_heads = {}; add it",
        keys.where(), config.hidden_size, config.num_heads);
  return config.hidden_size / config.num_heads;
}

}  // namespace

ParsedModelConfig model_config_from_json(const std::string& text, const std::string& where) {
  const json root = parse_json_object(text, where);
  const Keys keys(root, where);
  refuse_unsupported(keys);
  ParsedModelConfig parsed;
  ModelConfig& config = parsed.config;
  config.vocab_size = keys.count("vocab_size");
  config.hidden_size = keys.count("hidden_size");
  config.num_layers = keys.count("num_hidden_layers");
  config.num_heads = keys.count("num_attention_heads");
  config.num_kv_heads = keys.count("num_key_value_heads");
  config.head_dim = read_head_dim(keys, config);
  config.intermediate_size = keys.count("intermediate_size");
  config.rope_theta = read_rope_theta(keys);
  config.rms_norm_eps = keys.number("rms_norm_eps");
  config.tie_embeddings = keys.truth("tie_word_embeddings");
  config.qk_norm = read_qk_norm(keys);
  parsed.variant_stated = read_residual(keys, config.residual);
  if (const std::string problem = config.problem(); !problem.empty())
    throw DataError("{}: impossible model: {}", where, problem);
  return parsed;
}

namespace {

/// The class of transformers, or of the open code, that computes the model.
struct ModelClass {
  const char *architecture, *model_type;
};

ModelClass class_of(const ModelConfig& config) {
  if (config.residual.variant != Variant::additive) return {"Qwen3AttnResForCausalLM", "qwen3_attnres"};
  if (config.qk_norm) return {"Qwen3ForCausalLM", "qwen3"};
  return {"LlamaForCausalLM", "llama"};
}

/// Keys that one class has and the others have not.
void write_class_keys(const ModelConfig& config, nlohmann::ordered_json& root) {
  if (root.at("model_type") == "llama") {
    root["mlp_bias"] = false;
    root["pretraining_tp"] = 1;
    return;
  }
  root["max_window_layers"] = config.num_layers;
  root["sliding_window"] = nullptr;
  root["use_sliding_window"] = false;
}

void write_residual(const ModelConfig& config, nlohmann::ordered_json& root) {
  // The open code's "full" is `cumulative` with a block per sublayer; it has no such mode for the others.
  const bool representable = why_not(Form::open_attnres, config).empty();
  const bool full = representable && config.sublayers_per_block() == 1;
  root["attnres_mode"] = full ? "full" : "block";
  root["attnres_num_blocks"] =
      full ? std::max<int64_t>(1, config.residual.num_blocks) : open_code_blocks(config);
  root["attnres_recency_bias_init"] = config.residual.recency_bias;
  root["attnres_gate_type"] = "bias";
  root["attnres_variant"] = to_string(config.residual.variant);
  if (config.residual.sublayers_per_block > 0)
    root["attnres_sublayers_per_block"] = config.residual.sublayers_per_block;
  if (!config.qk_norm) root["attnres_qk_norm"] = false;
  if (representable) return;
  // It ignores keys that it does not know, and would load the tensors and compute another model: without a
  // number of blocks it refuses.
  root["attnres_num_blocks"] = nullptr;
  root["attnres_sublayers_per_block"] = config.sublayers_per_block();
}

}  // namespace

std::string model_config_to_json(const ModelConfig& config, bool bf16, const KeptKeys& keys) {
  const ModelClass model = class_of(config);
  nlohmann::ordered_json root = {{"architectures", nlohmann::ordered_json::array({model.architecture})},
                                 {"model_type", model.model_type},
                                 {"vocab_size", config.vocab_size},
                                 {"hidden_size", config.hidden_size},
                                 {"num_hidden_layers", config.num_layers},
                                 {"num_attention_heads", config.num_heads},
                                 {"num_key_value_heads", config.num_kv_heads},
                                 {"head_dim", config.head_dim},
                                 {"intermediate_size", config.intermediate_size},
                                 {"rope_theta", config.rope_theta},
                                 {"rope_scaling", nullptr},
                                 {"rms_norm_eps", config.rms_norm_eps},
                                 {"tie_word_embeddings", config.tie_embeddings},
                                 {"hidden_act", "silu"},
                                 {"attention_bias", false},
                                 {"attention_dropout", 0.0},
                                 {"initializer_range", 0.02},
                                 {"use_cache", true},
                                 {"torch_dtype", bf16 ? "bfloat16" : "float32"}};
  for (const auto& [key, value] : keys) root[key] = nlohmann::ordered_json::parse(value);
  write_class_keys(config, root);
  if (config.residual.variant != Variant::additive) write_residual(config, root);
  return root.dump(2) + "\n";
}

}  // namespace depthroute
