// Other programs' forms of a model: which models each of them can compute, and config.json as each of them reads it.
// What a program cannot compute is refused by name, or written so that it refuses to load (train/model/SPEC.md §4).
#pragma once

#include <string>

#include "configs/model_config.h"
#include "configs/terms.h"
#include "data/model/companions.h"

namespace depthroute {

/// transformers: Qwen3ForCausalLM and LlamaForCausalLM. depthroute: a model folder with our modelling file for
/// transformers. open_attnres: the open AttnRes code. fla: flash-linear-attention's `transformer`.
enum class Form : uint8_t { transformers, depthroute, open_attnres, fla };
template <>
struct Names<Form> {
  static constexpr std::array kAll = {"transformers", "depthroute", "open-attnres", "fla"};
};

inline constexpr const char* kDepthrouteType = "depthroute";  // model_type of Form::depthroute

/// Why the program cannot compute a model of this configuration; "" if it can. Values of tensors may stand against it
/// too: fla has no recency biases.
std::string why_not(Form form, const ModelConfig& config);

/// config.json for that program, which can compute the model (why_not()).
std::string config_json_for(Form form, const ModelConfig& config, bool bf16, const KeptKeys& keys);

/// The number of blocks by which the open code finds this model's blocks; 0 if there is none.
int64_t open_code_blocks(const ModelConfig& config);

}  // namespace depthroute
