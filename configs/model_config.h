// The shape of a model, shared by configurations, the config.json of model folders and the model itself
// (train/model/SPEC.md §2).
#pragma once

#include <cstdint>
#include <string>

#include "configs/terms.h"

namespace depthroute {

/// Most sources that a site may have: the kernels keep one weight per source in registers. Full AttnRes with
/// 28 layers has 57.
inline constexpr int kMaxSources = 64;

/// Most blocks that may be asked for. More than layers is no error: each layer is then a block.
inline constexpr int64_t kMaxBlocks = 8192;

struct ResidualConfig {
  Variant variant = Variant::cumulative;
  int64_t num_blocks = 8;           // used if sublayers_per_block is 0
  int64_t sublayers_per_block = 0;  // S; 0: 2 * ceil(num_layers / num_blocks)
  double recency_bias = 0.0;        // initial value of every site's learned bias
  bool operator==(const ResidualConfig&) const = default;
};

struct ModelConfig {
  int64_t vocab_size = 151936;
  int64_t hidden_size = 1024;
  int64_t num_layers = 28;
  int64_t num_heads = 16;
  int64_t num_kv_heads = 8;
  int64_t head_dim = 128;  // num_heads * head_dim need not equal hidden_size
  int64_t intermediate_size = 3072;
  double rope_theta = 1.0e6;
  double rms_norm_eps = 1.0e-6;
  bool tie_embeddings = true;
  bool qk_norm = true;  // RMSNorm of q and k over head_dim: Qwen3 has it, Llama has not
  ResidualConfig residual;
  bool operator==(const ModelConfig&) const = default;

  int64_t num_sublayers() const { return 2 * num_layers; }
  /// S, sublayers per block, with the default filled in (train/model/SPEC.md §1).
  int64_t sublayers_per_block() const;
  /// Returns "" if the shape is possible, otherwise one line that begins with the offending key: "head_dim =
  /// 7 must be even ...".
  std::string problem() const;
};

}  // namespace depthroute
