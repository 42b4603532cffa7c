#include "eval/setup.h"

#include <algorithm>

#include "configs/base/error.h"
#include "data/checkpoint_folder.h"
#include "train/model/weights.h"

namespace depthroute {
namespace {

ModelConfig wrapped_config(const ModelConfig& plain, const WrapConfig& wrap) {
  ModelConfig config = plain;
  config.residual.variant = Variant::cumulative;
  config.residual.num_blocks = wrap.num_blocks;
  config.residual.sublayers_per_block = wrap.sublayers_per_block;
  config.residual.recency_bias = wrap.recency_bias.front();
  if (const std::string problem = config.problem(); !problem.empty())
    throw ConfigError("model.wrap: {}", problem);
  const size_t sites = make_depth_plan(config).sites.size(), given = wrap.recency_bias.size();
  if (given != 1 && given != sites)
    throw ConfigError("model.wrap.recency_bias has {} values; the wrapped model has {} sites: give 1 or {}",
                      given, sites, sites);
  return config;
}

}  // namespace

std::string EvalModel::describe() const {
  const ModelConfig& c = config;
  std::string text =
      fmt::format("{} layers, hidden {}, heads {}/{}, vocabulary {}, {}", c.num_layers, c.hidden_size,
                  c.num_heads, c.num_kv_heads, c.vocab_size, to_string(c.residual.variant));
  if (c.residual.variant != Variant::additive)
    text += fmt::format(", {} sublayers per block", std::min(c.sublayers_per_block(), c.num_sublayers()));
  if (wrapped())
    text += recency_bias.size() == 1 ? fmt::format(" (plain Qwen3 wrapped, recency bias {})", recency_bias[0])
                                     : " (plain Qwen3 wrapped, one recency bias per site)";
  return text;
}

EvalModel open_eval_model(const EvalConfig& config, const std::string& from) {
  EvalModel model{open_model(from), {}, {}};
  model.config = model.folder.config();
  const bool plain = model.folder.is_plain();
  if (config.model.wrap && !plain)
    throw InputError("{} is not a plain Qwen3 (its variant is {}); remove model.wrap", model.folder.path(),
                     to_string(model.config.residual.variant));
  if (config.model.wrap) {
    model.config = wrapped_config(model.folder.config(), *config.model.wrap);
    model.recency_bias = config.model.wrap->recency_bias;
  } else if (plain && !(config.grids.empty() && config.cells.empty())) {
    throw InputError(
        "{} is a plain Qwen3 and has no routing for cells to change; set model.wrap, or remove grids and cells",
        model.folder.path());
  }
  return model;
}

void load_eval_model(Stream stream, const EvalModel& source, Qwen3& model) {
  if (source.wrapped()) {
    load_wrapped_parameters(stream, source.folder, model.layout(), source.recency_bias, model.parameters());
  } else {
    load_parameters(stream, source.folder, model.layout(), model.parameters());
  }
}

TokenStream open_eval_tokens(const EvalConfig& config, int64_t vocab_size) {
  TokenStream tokens(config.data.shards, vocab_size);
  const int64_t available = tokens.num_samples(config.data.seq_len);
  if (config.data.sequences > available)
    throw ConfigError("data.sequences is {}, but data.shards hold {} windows of seq_len {} ({} tokens)",
                      config.data.sequences, available, config.data.seq_len, tokens.num_tokens());
  return tokens;
}

}  // namespace depthroute
