// Checkpoints (SPEC §4): a folder per step, complete or absent. In it:
//   model/                 config.json and model.safetensors (float32), a model folder usable by itself
//   optimizer.safetensors  m.<name> and v.<name> by parameter, float32: any number of processes can load it
//   state.json             RunState
//   config.yaml            every key
//   manifest.json          written last: size and checksum of all the others
#pragma once

#include <cstdint>
#include <string>

#include "configs/train_config.h"
#include "train/step.h"

namespace depthroute {

/// What a run is beside its parameters, moments and configuration.
struct RunState {
  int64_t step = 0;           // optimiser steps done, skipped ones included
  int64_t tokens = 0;         // tokens trained on
  int64_t position = 0;       // sampler position of the next sequence: step * global_batch
  int64_t skipped_steps = 0;  // steps whose loss or gradient was not finite, in all
  int64_t bad_in_a_row = 0;   // of these the last ones in a row
  std::string data_fingerprint, val_fingerprint;  // "" without validation data
};

/// Writes <output>/checkpoints/step_…, points `latest` at it, then deletes the oldest beyond `keep` (0:
/// none). Returns the folder's path.
std::string save_checkpoint(const std::string& output, const TrainConfig& config, const RunState& state,
                            const TrainingStep& step);

/// Verifies the manifest and reads state.json. DataError naming what is wrong.
RunState verify_checkpoint(const std::string& folder);
/// Parameters and moments of a verified checkpoint. DataError if they are not this model's.
void load_checkpoint(const std::string& folder, TrainingStep& step);
std::string checkpoint_model_path(const std::string& folder);

/// Refuses to go on with another configuration or other data than the checkpoint's: ConfigError listing every
/// key that decides the result, with both values. checkpoint.accept_changes lets all of that pass but model.*
/// keys.
void refuse_changes(const std::string& folder, const TrainConfig& now, const RunState& stored,
                    const std::string& data_fingerprint);

}  // namespace depthroute
