// The shape of a model: what configurations, config.json of model folders and the model itself share (SPEC
// §2).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace depthroute {

/// Which states a site reads and where they restart (SPEC §1). Only the depth plan branches on this.
enum class Variant { additive, cumulative, reset, kimi };

const char* to_string(Variant variant);
std::optional<Variant> variant_from_string(const std::string& name);
const std::vector<std::string>& variant_names();  // in the order of the enum

/// Most sources a site may have: the kernels keep one weight per source in registers (Full AttnRes, 28
/// layers: 57).
inline constexpr int kMaxSources = 64;

struct ResidualConfig {
  Variant variant = Variant::cumulative;
  int64_t num_blocks = 8;           // used when sublayers_per_block is 0
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
  ResidualConfig residual;
  bool operator==(const ModelConfig&) const = default;

  int64_t num_sublayers() const { return 2 * num_layers; }
  /// S of SPEC §1: sublayers per block after the default has been filled in.
  int64_t sublayers_per_block() const;
  /// "" if the shape is possible, otherwise one line saying which key is not and why ("head_dim must be even
  /// ...").
  std::string problem() const;
};

}  // namespace depthroute
