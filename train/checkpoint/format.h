// Checkpoints (SPEC §4): a folder per step, complete or absent. In it:
//   model/           a model folder usable by itself, float32: config.json and model.safetensors, or, written
//   by
//                    n > 1 processes, model-0000r-of-0000n.safetensors (whole tensors) and their index
//   optimizer.safetensors, or optimizer-0000r-of-0000n.safetensors: both moments (checkpoint_tensors.h)
//   state.json       RunState
//   config.yaml      every key
//   manifest.json    written last: size and checksum of all the others
// Written by CheckpointSaver (checkpoint_saver.h). Any number of processes loads what any other number wrote.
#pragma once

#include <cstdint>
#include <string>

#include "configs/train_config.h"
#include "data/checkpoint_folder.h"
#include "train/checkpoint/tensors.h"

namespace depthroute {

class TrainingStep;

/// What a run is beside its parameters, moments and configuration.
struct RunState {
  int64_t step = 0;           // optimiser steps done, skipped ones included
  int64_t tokens = 0;         // tokens trained on
  int64_t position = 0;       // sampler position of the next sequence: step * global_batch
  int64_t skipped_steps = 0;  // steps whose loss or gradient was not finite, in all
  int64_t bad_in_a_row = 0;   // of these the last ones in a row
  std::string data_fingerprint, val_fingerprint;  // "" without validation data
};

/// state.json. The number of processes is there for the reader: nothing depends on it.
std::string state_to_json(const TrainConfig& config, const RunState& state, int processes);
/// verify_checkpoint_folder(), and reads state.json. DataError naming what is wrong.
RunState verify_checkpoint(const std::string& folder);

/// What of an allocated step is saved. The step must outlive it.
CheckpointTensors checkpoint_tensors(const TrainingStep& step);
/// Parameters and moments of a verified checkpoint, of which each process reads what it needs. DataError if
/// they are not this model's. Not collective.
void load_checkpoint(const std::string& folder, const CheckpointTensors& to);
void load_checkpoint(const std::string& folder, TrainingStep& step);

/// Refuses to go on with another configuration or other data than the checkpoint's: ConfigError listing every
/// key that decides the result, with both values. checkpoint.accept_changes lets all of that pass but model.*
/// keys. Validation data may be added and left out, but not be other data under the same curve.
void refuse_changes(const std::string& folder, const TrainConfig& now, const RunState& stored,
                    const std::string& data_fingerprint, const std::string& val_fingerprint);

}  // namespace depthroute
