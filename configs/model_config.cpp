#include "configs/model_config.h"

#include <fmt/format.h>

#include "configs/base/check.h"

namespace depthroute {

int64_t ModelConfig::sublayers_per_block() const {
  if (residual.sublayers_per_block > 0) return residual.sublayers_per_block;
  return 2 * div_ceil(num_layers, residual.num_blocks);
}

std::string ModelConfig::problem() const {
  const struct {
    const char* key;
    int64_t value, most;
  } sizes[] = {{"vocab_size", vocab_size, int64_t{1} << 24},
               {"hidden_size", hidden_size, 1 << 17},
               {"num_layers", num_layers, 1 << 12},
               {"num_heads", num_heads, 1 << 12},
               {"num_kv_heads", num_kv_heads, 1 << 12},
               {"head_dim", head_dim, 1 << 12},
               {"intermediate_size", intermediate_size, 1 << 20}};
  for (const auto& size : sizes)
    if (size.value < 1 || size.value > size.most)
      return fmt::format("{} = {} is outside 1 ... {}", size.key, size.value, size.most);
  if (head_dim % 2 != 0) return fmt::format("head_dim = {} must be even: RoPE rotates pairs", head_dim);
  if (num_heads % num_kv_heads != 0)
    return fmt::format("num_heads = {} is not a multiple of num_kv_heads = {}", num_heads, num_kv_heads);
  if (!(rope_theta > 0)) return fmt::format("rope_theta = {} must be positive", rope_theta);
  if (!(rms_norm_eps >= 0)) return fmt::format("rms_norm_eps = {} must not be negative", rms_norm_eps);
  if (residual.variant == Variant::additive) return "";
  if (residual.sublayers_per_block < 0)
    return fmt::format("residual.sublayers_per_block = {} must not be negative",
                       residual.sublayers_per_block);
  const bool by_number = residual.sublayers_per_block == 0;
  if (by_number && (residual.num_blocks < 1 || residual.num_blocks > kMaxBlocks))
    return fmt::format("residual.num_blocks = {} is outside 1 ... {}", residual.num_blocks, kMaxBlocks);
  // The last site reads the most sources: embedding, finished blocks, current state.
  const int64_t sources = (num_sublayers() - 1) / sublayers_per_block() + 2;
  if (sources > kMaxSources)
    return fmt::format("residual.{} = {} gives sites of {} sources; at most {} are supported",
                       by_number ? "num_blocks" : "sublayers_per_block",
                       by_number ? residual.num_blocks : residual.sublayers_per_block, sources, kMaxSources);
  return "";
}

}  // namespace depthroute
