// How a run starts: fresh, from another model's weights, or where a checkpoint of it stopped.
#pragma once

#include <string>

#include "configs/train_config.h"
#include "train/checkpoint.h"

namespace depthroute {

struct Start {
  std::string checkpoint;    // folder to go on from; "": step 1
  std::string model_folder;  // model.from, resolved; "" for fresh weights or a checkpoint's
  ModelConfig model;  // the shape: the checkpoint's or folder's where there is one, else the configuration's
  RunState state;
};

/// The shape and weights of a run that does not resume. ConfigError where model.from's shape contradicts
/// model.* keys.
Start fresh_start(const TrainConfig& config);

/// Follows checkpoint.resume. auto: the newest checkpoint of the output that verifies; damaged ones are
/// skipped with a warning on standard error; DataError if all are damaged. never: ConfigError if there are
/// checkpoints. A folder: it must verify, and the output must hold nothing newer.
Start choose_start(const TrainConfig& config);

/// What the first process chose, for the others: which checkpoint, and what it holds beside weights and
/// moments.
std::string start_to_text(const Start& start);
/// The start the text stands for, without verifying the checkpoint once more.
Start start_from_text(const std::string& text, const TrainConfig& config);

}  // namespace depthroute
