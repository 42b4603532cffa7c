// What an evaluation works on, checked before anything is computed: the model (wrapped or not) and the
// tokens.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "configs/eval_config.h"
#include "data/model_folder.h"
#include "data/token_stream.h"
#include "train/model/qwen3.h"

namespace depthroute {

struct EvalModel {
  ModelFolder folder;
  ModelConfig config;  // what is run: the folder's, or `cumulative` for a wrapped model
  std::vector<double>
      recency_bias;  // the wrapper's schedule, one value or one per site; empty if not wrapped
  bool wrapped() const { return !recency_bias.empty(); }
  std::string describe() const;  // one line
};

/// Finds and opens the model `from` names (open_model()) and decides what is run. InputError for a wrap on a
/// model that is not plain, cells on a plain model that is not wrapped, or a list of biases of the wrong
/// length.
EvalModel open_eval_model(const EvalConfig& config, const std::string& from);

/// Fills the model's parameters, which must be allocated.
void load_eval_model(Stream stream, const EvalModel& source, Qwen3& model);

/// The stream, with enough windows for data.sequences. DataError or ConfigError otherwise.
TokenStream open_eval_tokens(const EvalConfig& config, int64_t vocab_size);

}  // namespace depthroute
