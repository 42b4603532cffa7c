// What a checkpoint holds, and loading it (train/model/SPEC.md §4): one folder per step, complete or absent,
// whose names are in data/run_layout.h. CheckpointSaver (saver.h) writes it. Parameters are float32, in a
// model folder usable by itself; moments are in files of their own (tensors.h). Any number of ranks loads
// what any other number wrote.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "configs/train_config.h"
#include "data/checkpoint_folder.h"
#include "data/tokens/shard_manifest.h"
#include "train/checkpoint/tensors.h"

namespace depthroute {

class TrainingStep;

/// What a run is beside its parameters, moments and configuration.
struct RunState {
  int64_t step = 0;           // optimizer steps done, skipped ones included
  int64_t tokens = 0;         // tokens trained on
  int64_t position = 0;       // sampler position of the next sequence: step * global_batch
  int64_t skipped_steps = 0;  // steps whose loss or gradient was not finite, in all
  int64_t bad_in_a_row = 0;   // how many of these came last, in a row
  std::string data_fingerprint, val_fingerprint;  // "" without validation data
  std::optional<TokenizerIdentity> tokenizer;     // of the data, if known; state_from_json() leaves it out
};

/// The state as JSON and back, for the ranks that read no file. DataError naming `where`, the key and what is
/// wrong.
std::string state_to_json(const RunState& state);
RunState state_from_json(const std::string& text, const std::string& where);
/// state.json: the state, the tokenizer, and who wrote it. Those keys, the number of ranks among them, are for
/// people to read: nothing depends on them.
std::string state_to_json(const RunState& state, const TrainConfig& config, int ranks);
/// Calls verify_checkpoint_folder() and reads state.json. DataError naming what is wrong.
RunState verify_checkpoint(const std::string& folder);

/// What is saved of an allocated step. The step must outlive it.
CheckpointTensors checkpoint_tensors(const TrainingStep& step);
/// Loads parameters and moments of a verified checkpoint; each rank reads what it needs. DataError if they
/// are not this model's. Not collective.
void load_checkpoint(const std::string& folder, const CheckpointTensors& to);
void load_checkpoint(const std::string& folder, TrainingStep& step);

/// Refuses to resume with another configuration or other data than the checkpoint's: ConfigError listing
/// every key that decides the result, with both values. checkpoint.accept_changes lets all of that pass but
/// model.* keys. Validation data may be added and left out, but not be other data under the same curve.
void refuse_changes(const std::string& folder, const TrainConfig& now, const RunState& stored,
                    const std::string& data_fingerprint, const std::string& val_fingerprint);

}  // namespace depthroute
