#include "train/checkpoint/format.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>
#include <vector>

#include "configs/base/error.h"
#include "configs/cli.h"
#include "configs/read.h"
#include "data/checkpoint_folder.h"
#include "data/files.h"
#include "data/json.h"
#include "data/model/model_folder.h"
#include "data/tokens/token_stream.h"
#include "train/model/weights.h"
#include "train/step.h"

namespace depthroute {

using json = nlohmann::ordered_json;

namespace {

/// Where state.json has the sampler's position; who wrote the file follows behind it.
constexpr std::string_view kPosition = "/sampler/position";

/// Calls visit(JSON pointer, field) for every field of a RunState, in the order of state.json.
template <typename State, typename Visit>
void for_each_field(State& state, Visit visit) {
  visit("/step", state.step);
  visit("/tokens", state.tokens);
  visit(kPosition, state.position);
  visit("/skipped_steps", state.skipped_steps);
  visit("/bad_in_a_row", state.bad_in_a_row);
  visit("/data_fingerprint", state.data_fingerprint);
  visit("/val_fingerprint", state.val_fingerprint);
}

}  // namespace

std::string state_to_json(const RunState& state) {
  json object;
  for_each_field(state, [&](std::string_view pointer, const auto& value) {
    object[json::json_pointer(std::string(pointer))] = value;
  });
  return object.dump();
}

std::string state_to_json(const RunState& state, const TrainConfig& config, int ranks) {
  json object;
  for_each_field(state, [&](std::string_view pointer, const auto& value) {
    object[json::json_pointer(std::string(pointer))] = value;
    if (pointer != kPosition) return;
    object["sampler"]["order"] = to_string(config.data.order);
    object["sampler"]["seq_len"] = config.data.seq_len;
    // Fresh weights and sample order are functions of the seed and a counter; nothing else is random.
    object["rng"] = {{"kind", "counter"}, {"seed", config.seed}};
    object["processes"] = ranks;
  });
  if (state.tokenizer) {
    object["tokenizer"]["name"] = state.tokenizer->name;
    if (!state.tokenizer->checksum.empty()) object["tokenizer"]["checksum"] = state.tokenizer->checksum;
  }
  object["program"] = {{"version", program_version()}, {"commit", program_commit()}};
  return object.dump(2) + "\n";
}

RunState state_from_json(const std::string& text, const std::string& where) {
  RunState state;
  try {
    const nlohmann::json object = parse_json_object(text, where);
    for_each_field(state, [&](std::string_view pointer, auto& value) {
      object.at(nlohmann::json::json_pointer(std::string(pointer))).get_to(value);
    });
  } catch (const nlohmann::json::exception& error) {
    throw DataError("{}: not the state of a run: {}: take another checkpoint", where, error.what());
  }
  return state;
}

RunState verify_checkpoint(const std::string& folder) {
  const Manifest manifest = verify_checkpoint_folder(folder);
  const std::string path = folder + "/" + kStateName;
  const RunState state = state_from_json(read_file(path), path);
  if (state.step < 0 || state.tokens < 0 || state.position < 0)
    throw DataError("{}: step, tokens or sampler position is out of range: take another checkpoint", path);
  if (state.step != manifest.step)
    throw DataError("{}: {} says step {}, {} step {}: take another checkpoint", folder, kManifestName,
                    manifest.step, kStateName, state.step);
  return state;
}

CheckpointTensors checkpoint_tensors(const TrainingStep& step) {
  return {step.model().config(),     step.layout(),        step.partition(),    step.stream(),
          step.model().parameters(), step.optimizer().m(), step.optimizer().v()};
}

void load_checkpoint(const std::string& folder, const CheckpointTensors& to) {
  load_parameters(to.stream, ModelFolder(checkpoint_model_path(folder)), to.layout, to.parameters);
  load_moments(folder, to);
}

void load_checkpoint(const std::string& folder, TrainingStep& step) {
  load_checkpoint(folder, checkpoint_tensors(step));
}

void refuse_changes(const std::string& folder, const TrainConfig& now, const RunState& stored,
                    const std::string& data_fingerprint, const std::string& val_fingerprint) {
  // Keys that do not decide which numbers come out. The data's contents are compared by fingerprint, not by
  // path.
  std::vector<std::string> free = {"output",
                                   "device",
                                   "log",
                                   "validate",
                                   "checkpoint",
                                   "data.train",
                                   "data.val",
                                   "train.max_bad_steps",
                                   "train.recompute",
                                   "train.cuda_graph",
                                   "train.tune_products",
                                   "distributed.backend",
                                   "distributed.timeout"};
  // How sums are cut decides bits, which only deterministic runs promise. So does the number of ranks.
  if (!now.deterministic) free.insert(free.end(), {"distributed.bucket_mib", "distributed.shards"});
  const auto is_free = [&](const std::string& key) {
    for (const std::string& prefix : free)
      if (key == prefix || key.starts_with(prefix + ".") || key.starts_with(prefix + "[")) return true;
    return key.starts_with("data.mix[") && key.ends_with("].shards");
  };

  // A checkpoint cannot become another model, so model.* is refused even under accept_changes.
  const bool accepting = now.checkpoint.accept_changes;
  std::string changes;
  const auto before = flatten(read_train_config(folder + "/" + kConfigName));
  const auto after = flatten(now);
  const auto note = [&](const std::string& key, const std::string& then, const std::string& is) {
    if (then != is && !is_free(key) && (!accepting || key.starts_with("model.")))
      changes += fmt::format("{}{} was {}, is {}", changes.empty() ? "" : "; ", key, then, is);
  };
  // Entries of data.mix come and go, other keys are always there.
  const auto value_in = [](const auto& flat, const std::string& key) {
    const auto found =
        std::find_if(flat.begin(), flat.end(), [&](const auto& entry) { return entry.first == key; });
    return found == flat.end() ? std::string("not there") : found->second;
  };
  for (const auto& [key, is] : after) note(key, value_in(before, key), is);
  for (const auto& [key, then] : before)
    if (const std::string is = value_in(after, key); is == "not there") note(key, then, is);
  const auto compare = [&](const char* key, const std::string& then, const std::string& now_there) {
    if (accepting || then == now_there) return;
    const char* what =
        then.starts_with(kFingerprintKind)
            ? "the tokens of {} have changed"
            : "the tokens of {} cannot be compared (an earlier version looked at the shards' ends only)";
    changes += (changes.empty() ? "" : "; ") + fmt::format(fmt::runtime(what), key);
  };
  compare(now.data.mix.empty() ? "data.train" : "data.mix", stored.data_fingerprint, data_fingerprint);
  if (!stored.val_fingerprint.empty() && !val_fingerprint.empty())
    compare("data.val", stored.val_fingerprint, val_fingerprint);
  if (changes.empty()) return;
  throw ConfigError("{}: made by another run: {}: restore this, or set another output{}", folder, changes,
                    accepting ? "" : ", or set checkpoint.accept_changes: true to resume regardless");
}

}  // namespace depthroute
