#include "train/start.h"

#include <cstdio>
#include <filesystem>
#include <optional>
#include <vector>

#include "configs/base/error.h"
#include "configs/base/regular_file.h"
#include "configs/plan_size.h"
#include "configs/read.h"
#include "configs/standard_streams.h"
#include "data/checkpoint_folder.h"
#include "data/model/model_folder.h"
#include "train/checkpoint/run_folder.h"

namespace depthroute {

namespace {

/// model.from supplies the shape. A key of `model` that was given beside it, even with its default value,
/// would be ignored silently: refuses those that differ from the folder's.
void refuse_contradictions(const TrainConfig& config, const ModelFolder& folder) {
  TrainConfig actual = config;
  actual.model = folder.config();
  // num_blocks and sublayers_per_block are two ways to say the same.
  ModelConfig with_given_blocks = actual.model;
  with_given_blocks.residual = config.model.residual;
  const bool same_blocks = with_given_blocks.sublayers_per_block() == actual.model.sublayers_per_block();

  const auto given = flatten(config), there = flatten(actual);
  for (size_t i = 0; i < given.size(); ++i) {
    const auto& [key, value] = given[i];
    if (!key.starts_with("model.") || !config.given.contains(key)) continue;
    if (folder.is_plain() && key.starts_with("model.residual.")) {
      if (config.model.residual.variant == Variant::additive) continue;  // the other keys mean nothing then
      throw ConfigError(
          "{}: {} is {}, but the folder holds a plain model (additive), whose shape is kept: remove the key, or "
          "leave out model.from to train routing from scratch",
          folder.path(), key, value);
    }
    const bool blocks = key == "model.residual.num_blocks" || key == "model.residual.sublayers_per_block";
    if (value == there[i].second || (blocks && same_blocks)) continue;
    const std::string has =
        blocks ? fmt::format("{} sublayers per block", actual.model.sublayers_per_block()) : there[i].second;
    throw ConfigError(
        "{}: {} is {}, but the model there has {}: remove the key (model.from supplies the shape)",
        folder.path(), key, value, has);
  }
}

Start at_checkpoint(const std::string& folder, const RunState& state, const TrainConfig& config) {
  Start start;
  start.state = state;
  start.checkpoint = folder;
  // Without model.from, refuse_changes() has checked that the configuration's shape is the checkpoint's.
  start.model = config.model_from ? ModelFolder(checkpoint_model_path(folder)).config() : config.model;
  return start;
}

Start resume_from(const std::string& folder, const TrainConfig& config) {
  return at_checkpoint(folder, verify_checkpoint(folder), config);
}

std::optional<Start> newest_whole(const std::vector<CheckpointFolder>& folders, const TrainConfig& config) {
  std::string reason;
  for (auto folder = folders.rbegin(); folder != folders.rend(); ++folder) {
    try {
      return resume_from(folder->path, config);
    } catch (const AccessError&) {
      throw;
    } catch (const InputError& error) {
      reason = error.what();
      print_line(stderr,
                 fmt::format("warning: checkpoint {} is damaged and skipped: {}", folder->path, reason));
    }
  }
  if (!folders.empty())
    throw DataError("{}: every checkpoint is damaged: remove that folder to start again from step 1",
                    std::filesystem::path(folders.front().path).parent_path().string());
  return std::nullopt;
}

Start fresh_weights(const TrainConfig& config) {
  Start start;
  start.model = config.model;
  return start;
}

Start start_from_model(const std::string& path, const TrainConfig& config) {
  Start start;
  start.model_folder = std::make_shared<const ModelFolder>(open_model(path));
  refuse_contradictions(config, *start.model_folder);
  start.model = start.model_folder->config();
  TrainConfig taken = config;
  taken.model = start.model;
  if (const std::string problem = size_problem(taken); !problem.empty())
    throw ConfigError("model.from {}: {}", path, problem);
  return start;
}

}  // namespace

Start fresh_start(const TrainConfig& config) {
  return config.model_from ? start_from_model(*config.model_from, config) : fresh_weights(config);
}

Start choose_start(const TrainConfig& config) {
  const std::string& resume = config.checkpoint.resume;
  const std::vector<CheckpointFolder> present = list_checkpoints(config.output);
  if (resume == "auto") {
    std::optional<Start> start = newest_whole(present, config);
    return start ? *start : fresh_start(config);
  }
  if (resume == "never") {
    if (present.empty()) return fresh_start(config);
    throw ConfigError(
        "{}: holds checkpoints and checkpoint.resume is never: set another output, or resume: auto",
        checkpoints_path(config.output));
  }
  if (!is_folder(resume))
    throw ConfigError("checkpoint.resume: {} is not a folder: use auto, never or a checkpoint folder",
                      resume);
  Start start = resume_from(resolve_links(resume), config);
  if (!present.empty() && present.back().step > start.state.step)
    throw ConfigError(
        "checkpoint.resume: {} is step {}, but {} already holds step {}: use resume: auto, or set "
        "another output",
        resume, start.state.step, checkpoints_path(config.output), present.back().step);
  return start;
}

Companions companions_of(const Start& start, const TrainConfig& config,
                         const std::optional<TokenizerIdentity>& tokenizer) {
  Companions companions;
  if (!start.checkpoint.empty())
    companions = read_companions(checkpoint_model_path(start.checkpoint));
  else if (start.model_folder)
    companions = read_companions(start.model_folder->path());
  if (tokenizer && !tokenizer->file.empty()) add_tokenizer(companions, tokenizer->file, tokenizer->checksum);
  note_trained_length(companions.keys, config.data.seq_len);
  return companions;
}

// Paths are bytes, JSON is not: they come before it, each with a NUL behind it.
std::string start_to_text(const Start& start) {
  const std::string model = start.model_folder ? start.model_folder->path() : "";
  return start.checkpoint + '\0' + model + '\0' + state_to_json(start.state);
}

Start start_from_text(const std::string& text, const TrainConfig& config) {
  const size_t first = text.find('\0'), second = text.find('\0', first + 1);
  const std::string checkpoint = text.substr(0, first), model = text.substr(first + 1, second - first - 1);
  if (!model.empty()) return start_from_model(model, config);
  if (checkpoint.empty()) return fresh_weights(config);
  return at_checkpoint(checkpoint, state_from_json(text.substr(second + 1), "start of rank 0"), config);
}

}  // namespace depthroute
