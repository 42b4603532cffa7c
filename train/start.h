// How a run starts: fresh, from another model's weights, or where a checkpoint of it stopped.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "configs/train_config.h"
#include "data/model/model_folder.h"
#include "train/checkpoint/format.h"

namespace depthroute {

struct Start {
  std::string checkpoint;  // folder to resume from; "": step 1
  /// model.from, opened once: shape and weights are of one model, whatever its path comes to name. Null for
  /// fresh weights or a checkpoint's.
  std::shared_ptr<const ModelFolder> model_folder;
  ModelConfig
      model;  // the shape: that of the checkpoint or folder if there is one, otherwise the configuration's
  RunState state;
};

/// The shape and weights of a run that does not resume. ConfigError if the shape of model.from contradicts
/// model.* keys.
Start fresh_start(const TrainConfig& config);

/// Follows checkpoint.resume. auto: the newest checkpoint of the output that verifies; damaged ones are
/// skipped with a warning on standard error; DataError if all are damaged; AccessError if one cannot be read,
/// since a newer one that is whole must not be trained over. never: ConfigError if there are checkpoints. A
/// folder: it must verify, and the output must hold nothing newer.
Start choose_start(const TrainConfig& config);

/// What travels with the model into every checkpoint of the run: the companions of the checkpoint that it resumes or
/// of model.from, else the tokenizer beside the token shards, and the length it is trained for (data.seq_len, if that is
/// more than they say).
Companions companions_of(const Start& start, const TrainConfig& config,
                         const std::optional<TokenizerIdentity>& tokenizer);

/// What rank 0 chose, as text for the other ranks: which checkpoint, and what it holds beside weights and
/// moments.
std::string start_to_text(const Start& start);
/// The start the text stands for, without verifying the checkpoint once more.
Start start_from_text(const std::string& text, const TrainConfig& config);

}  // namespace depthroute
