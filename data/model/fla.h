// Models of flash-linear-attention 0.6, model_type `transformer`: AttnRes as in its paper (our `kimi`), or plain.
// Sublayers are counted as we do; head_dim is hidden / heads; there are no recency biases; q and k, where they are
// normalised, with an eps of 1e-5 whatever `norm_eps` is.
#pragma once

#include <string>

#include "configs/model_config.h"
#include "data/model/companions.h"

namespace depthroute {

inline constexpr const char* kFlaType = "transformer";  // model_type

/// Why it cannot compute a model of this configuration; "" if it can.
std::string why_not_fla(const ModelConfig& config);

std::string fla_config_to_json(const ModelConfig& config, bool bf16, const KeptKeys& keys);
/// DataError naming `where` and the key for anything that this program cannot compute.
ModelConfig fla_config_from_json(const std::string& text, const std::string& where);

/// Its name of a parameter of ours; "" for a recency bias, which it does not have.
std::string fla_name(const std::string& name);

}  // namespace depthroute
