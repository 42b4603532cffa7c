#include "data/model/other_code.h"

#include <fmt/format.h>

#include <algorithm>

#include "data/json.h"
#include "data/model/fla.h"
#include "data/model/model_folder.h"

namespace depthroute {
namespace {

bool is_plain(const ModelConfig& config) { return config.residual.variant == Variant::additive; }

std::string why_not_transformers(const ModelConfig& config) {
  if (is_plain(config)) return "";
  return fmt::format("its variant is {}, and transformers has plain residual streams only",
                     to_string(config.residual.variant));
}

/// Its modes are `block`, by a number of blocks, and `full`, without a final site.
std::string why_not_open_attnres(const ModelConfig& config) {
  const Variant variant = config.residual.variant;
  if (variant == Variant::additive) return "a plain model has no routing; transformers has this class";
  if (!config.qk_norm) return "it normalises q and k, and this model does not";
  if (variant == Variant::kimi) return "it has no kimi: the embedding would be part of the first block";
  const int64_t sublayers = config.sublayers_per_block();
  if (sublayers == 1)
    return variant == Variant::cumulative ? "" : "it has no block per sublayer (S = 1) with a final site";
  if (open_code_blocks(config) == 0)
    return fmt::format("no number of blocks gives {} sublayers per block in {} layers there", sublayers,
                       config.num_layers);
  return "";
}

std::string for_depthroute(const ModelConfig& config, bool bf16, const KeptKeys& keys) {
  auto root = nlohmann::ordered_json::parse(model_config_to_json(config, bf16, keys));
  root["architectures"] = {"DepthrouteForCausalLM"};
  root["model_type"] = kDepthrouteType;
  root["auto_map"] = {{"AutoConfig", "modeling_depthroute.DepthrouteConfig"},
                      {"AutoModel", "modeling_depthroute.DepthrouteModel"},
                      {"AutoModelForCausalLM", "modeling_depthroute.DepthrouteForCausalLM"}};
  // Theirs: transformers 5 rewrites some of them, the open code must not take this for one of its own.
  for (const char* key :
       {"rope_scaling", "hidden_act", "attention_bias", "attention_dropout", "mlp_bias", "pretraining_tp",
        "max_window_layers", "sliding_window", "use_sliding_window", "attnres_mode", "attnres_gate_type"})
    root.erase(key);
  root["attnres_variant"] = to_string(config.residual.variant);
  root["attnres_qk_norm"] = config.qk_norm;
  if (is_plain(config)) return root.dump(2) + "\n";
  root["attnres_num_blocks"] = nullptr;
  root["attnres_sublayers_per_block"] = config.sublayers_per_block();
  return root.dump(2) + "\n";
}

}  // namespace

int64_t open_code_blocks(const ModelConfig& config) {
  const int64_t sublayers = config.sublayers_per_block();
  const auto gives_same = [&](int64_t blocks) {
    return blocks > 0 && 2 * ((config.num_layers + blocks - 1) / blocks) == sublayers;
  };
  if (config.residual.sublayers_per_block == 0 && gives_same(config.residual.num_blocks))
    return config.residual.num_blocks;
  if (sublayers < 2) return 0;
  const int64_t blocks = (2 * config.num_layers + sublayers - 1) / sublayers;
  if (gives_same(config.residual.num_blocks)) return config.residual.num_blocks;
  return gives_same(blocks) ? blocks : 0;
}

std::string why_not(Form form, const ModelConfig& config) {
  switch (form) {
    case Form::transformers:
      return why_not_transformers(config);
    case Form::open_attnres:
      return why_not_open_attnres(config);
    case Form::fla:
      return why_not_fla(config);
    case Form::depthroute:
      break;
  }
  return "";
}

std::string config_json_for(Form form, const ModelConfig& config, bool bf16, const KeptKeys& keys) {
  if (form == Form::fla) return fla_config_to_json(config, bf16, keys);
  if (form == Form::depthroute) return for_depthroute(config, bf16, keys);
  return model_config_to_json(config, bf16, keys);
}

}  // namespace depthroute
