// What an evaluation reads, opened and checked before anything is computed: the model, wrapped or not, the
// tokens, and the cells resolved against the model's depth plan. Every mode of the program starts from it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "configs/cli.h"
#include "configs/eval_config.h"
#include "data/model/model_folder.h"
#include "data/tokens/token_stream.h"
#include "eval/cells/grid.h"
#include "eval/cells/known_answers.h"
#include "eval/measure/work_plan.h"
#include "eval/results/part.h"
#include "train/model/depth_plan.h"

namespace depthroute {

struct EvalModel {
  ModelFolder folder;
  ModelConfig config;  // what runs: the folder's, or `cumulative` for a wrapped model
  std::vector<double>
      recency_bias;  // of the wrapper's recency schedule, one value or one per site; empty: not wrapped

  bool wrapped() const { return !recency_bias.empty(); }
  std::string describe() const;  // one line
};

/// Opens the model that `from` names (open_model()) and decides what runs. InputError for a wrap on a model
/// that is not plain, cells on a plain model that is not wrapped, or a list of biases of the wrong length.
EvalModel open_eval_model(const EvalConfig& config, const std::string& from);

/// Fills the parameters of `model`, which must be allocated.
void load_eval_model(Stream stream, const EvalModel& source, Qwen3& model);

/// Opens the shards. DataError or ConfigError unless they hold data.sequences windows of tokens below
/// `vocab_size`.
TokenStream open_eval_tokens(const EvalConfig& config, int64_t vocab_size);

/// Hashes everything that makes results what they are; `output` is not part of it.
std::string config_hash(const EvalConfig& config);

struct EvalInput {
  EvalConfig config;
  EvalModel model;
  TokenStream tokens;
  DepthPlan plan;
  std::vector<Cell> cells;
  std::vector<KnownAnswer> known_answers;

  /// Computes nothing and writes nothing. InputError for what cannot work. `folder`: the model folder rank 0
  /// found for model.from; "": find it.
  explicit EvalInput(const EvalConfig& eval_config, const std::string& folder = "");

  /// The cells that run, then the known answers; views of this object.
  std::vector<Comparison> comparisons() const;
  BatchRange batches() const { return BatchRange::all(config.data.sequences, micro_batch()); }
  int64_t micro_batch() const { return std::min(config.micro_batch, config.data.sequences); }
  bool stores_weights() const;
  /// Hashes the model and the tokens, which takes a while. Knows nothing of the device.
  Provenance provenance(const CommandLine& command) const;
  PartLayout layout(const BatchRange& batches) const;
};

}  // namespace depthroute
