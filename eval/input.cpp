#include "eval/input.h"

#include "configs/base/error.h"
#include "configs/read.h"
#include "data/checkpoint_folder.h"
#include "data/files.h"
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
        "{} is a plain Qwen3 and has no routing for cells to change; set model.wrap, or remove grids and "
        "cells",
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

std::string config_hash(const EvalConfig& config) {
  EvalConfig same = config;
  same.output.clear();  // does not change the results
  const std::string text = to_yaml(same);
  return hash_bytes(std::as_bytes(std::span<const char>(text)));
}

EvalInput::EvalInput(const EvalConfig& eval_config, const std::string& folder)
    : config(eval_config),
      model(open_eval_model(config, folder.empty() ? config.model.from : folder)),
      tokens(open_eval_tokens(config, model.config.vocab_size)),
      plan(make_depth_plan(model.config)),
      cells(resolve_cells(config.grids, config.cells, plan)),
      known_answers(make_known_answers(plan, model.recency_bias)) {}

std::vector<Comparison> EvalInput::comparisons() const {
  std::vector<Comparison> list;
  for (const Cell& cell : cells)
    if (cell.runs()) list.push_back({cell.name, cell.first_site, cell.site_changes});
  for (const KnownAnswer& known_answer : known_answers)
    list.push_back({known_answer.name, known_answer.first_site, known_answer.site_changes});
  return list;
}

Provenance EvalInput::provenance(const CommandLine& command) const {
  Provenance from;
  from.command_line = command.text;
  from.config_yaml = to_yaml(config);
  from.config_hash = config_hash(config);
  from.checkpoint_path = model.folder.path();
  from.checkpoint_checksum = model_checksum(model.folder);
  for (size_t i = 0; i < tokens.shards().size(); ++i) {
    const ShardContents contents = tokens.read_contents(i);
    tokens.check_vocabulary(i, contents);
    from.data_paths.push_back(tokens.shards()[i].path);
    from.data_checksums.push_back(contents.checksum);
  }
  from.seed = config.statistics.seed;
  from.wrapped = model.wrapped();
  return from;
}

bool EvalInput::stores_weights() const {
  return config.routing.weights == RoutingWeights::all && plan.sites.front().routed;
}

PartLayout EvalInput::layout(const BatchRange& batches) const {
  PartLayout layout{plan, batches, config.data.seq_len, {}, stores_weights()};
  for (const Comparison& comparison : comparisons()) layout.comparisons.push_back(comparison.name);
  return layout;
}

}  // namespace depthroute
