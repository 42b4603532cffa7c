#include "train/checkpoint.h"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

#include "configs/base/error.h"
#include "configs/cli.h"
#include "configs/read.h"
#include "data/files.h"
#include "data/manifest.h"
#include "data/safetensors.h"
#include "kernels/host_view.h"
#include "kernels/ops.h"
#include "train/model/weights.h"
#include "train/run_folder.h"

namespace depthroute {

namespace fs = std::filesystem;
using json = nlohmann::ordered_json;

namespace {

constexpr const char* kKind = "depthroute checkpoint";
constexpr const char* kOptimizerFile = "/optimizer.safetensors";

std::string state_to_json(const TrainConfig& config, const RunState& state) {
  const json object = {
      {"step", state.step},
      {"tokens", state.tokens},
      {"sampler",
       {{"position", state.position}, {"order", config.data.order}, {"seq_len", config.data.seq_len}}},
      // Fresh weights and sample order are functions of the seed and a counter; nothing else is random.
      {"rng", {{"kind", "counter"}, {"seed", config.seed}}},
      {"skipped_steps", state.skipped_steps},
      {"bad_in_a_row", state.bad_in_a_row},
      {"data_fingerprint", state.data_fingerprint},
      {"val_fingerprint", state.val_fingerprint},
      {"program", {{"version", program_version()}, {"commit", program_commit()}}},
  };
  return object.dump(2) + "\n";
}

RunState read_state(const std::string& path) {
  RunState state;
  try {
    const json object = json::parse(read_file(path));
    state.step = object.at("step").get<int64_t>();
    state.tokens = object.at("tokens").get<int64_t>();
    state.position = object.at("sampler").at("position").get<int64_t>();
    state.skipped_steps = object.at("skipped_steps").get<int64_t>();
    state.bad_in_a_row = object.at("bad_in_a_row").get<int64_t>();
    state.data_fingerprint = object.at("data_fingerprint").get<std::string>();
    state.val_fingerprint = object.at("val_fingerprint").get<std::string>();
  } catch (const json::exception& error) {
    throw DataError("{}: not the state of a run: {}: take another checkpoint", path, error.what());
  }
  if (state.step < 1 || state.tokens < 0 || state.position < 0)
    throw DataError("{}: step, tokens or sampler position is out of range: take another checkpoint", path);
  return state;
}

void save_moments(const std::string& path, const TrainingStep& step) {
  const HostView m(step.stream(), step.optimizer().m()), v(step.stream(), step.optimizer().v());
  std::vector<TensorToWrite> tensors;
  for (const auto& [prefix, block] : {std::pair{"m.", &m}, std::pair{"v.", &v}})
    for (const Parameter& parameter : step.layout().all()) {
      const Tensor view = step.layout().view(block->tensor(), parameter);
      tensors.push_back({prefix + parameter.name,
                         parameter.shape.extents(),
                         {view.data<float>(), static_cast<size_t>(view.numel())}});
    }
  write_safetensors(path, tensors);
}

void load_moment(const SafetensorsFile& file, const std::string& prefix, const TrainingStep& step,
                 const Tensor& block) {
  std::vector<float> values;
  for (const Parameter& parameter : step.layout().all()) {
    const std::string name = prefix + parameter.name;
    const TensorEntry* entry = file.find(name);
    if (!entry) throw DataError("{}: tensor {} is missing: take another checkpoint", file.path(), name);
    if (entry->shape != parameter.shape.extents())
      throw DataError("{}: tensor {} has another shape than this model: use the checkpoint's model keys",
                      file.path(), name);
    const Tensor view = step.layout().view(block, parameter);
    values.resize(static_cast<size_t>(view.numel()));
    file.read_float(*entry, values);
    ops::copy(step.stream(), host_tensor(values.data(), view.shape), view);
    synchronize(step.stream());
  }
}

void prune(const std::string& output, int64_t written, int64_t keep) {
  if (keep == 0) return;
  std::vector<CheckpointFolder> folders = list_checkpoints(output);
  // A folder with a later step can only be one that did not verify: it is replaced when the run gets there.
  std::erase_if(folders, [&](const CheckpointFolder& folder) { return folder.step > written; });
  for (int64_t i = 0; i + keep < static_cast<int64_t>(folders.size()); ++i)
    if (folders[static_cast<size_t>(i)].step != written) remove_folder(folders[static_cast<size_t>(i)].path);
}

}  // namespace

std::string checkpoint_model_path(const std::string& folder) { return folder + "/model"; }

std::string save_checkpoint(const std::string& output, const TrainConfig& config, const RunState& state,
                            const TrainingStep& step) {
  const std::string name = checkpoint_name(state.step);
  const std::string path = checkpoints_path(output) + "/" + name;
  {
    AtomicFolder folder(path);
    const std::string model = checkpoint_model_path(folder.path());
    std::error_code error;
    if (!fs::create_directory(model, error) && error)
      throw SystemError("{}: the folder cannot be made: {}", model, error.message());
    save_parameters(step.stream(), model, step.model().config(), step.layout(), step.model().parameters());
    save_moments(folder.path() + kOptimizerFile, step);
    write_file_atomically(folder.path() + "/state.json", state_to_json(config, state));
    write_file_atomically(folder.path() + "/config.yaml", to_yaml(config));
    write_manifest(folder.path(), kKind, state.step);
    folder.commit();
  }
  replace_symlink(name, checkpoints_path(output) + "/latest");
  prune(output, state.step, config.checkpoint.keep);
  return path;
}

RunState verify_checkpoint(const std::string& folder) {
  const Manifest manifest = verify_manifest(folder);
  if (manifest.kind != kKind)
    throw DataError("{}: the manifest is of a {}, not of a checkpoint: name a checkpoint folder", folder,
                    manifest.kind);
  RunState state = read_state(folder + "/state.json");
  if (state.step != manifest.step)
    throw DataError("{}: manifest.json says step {}, state.json step {}: take another checkpoint", folder,
                    manifest.step, state.step);
  return state;
}

void load_checkpoint(const std::string& folder, TrainingStep& step) {
  load_parameters(step.stream(), ModelFolder(checkpoint_model_path(folder)), step.layout(),
                  step.model().parameters());
  const SafetensorsFile file(folder + kOptimizerFile);
  load_moment(file, "m.", step, step.optimizer().m());
  load_moment(file, "v.", step, step.optimizer().v());
}

void refuse_changes(const std::string& folder, const TrainConfig& now, const RunState& stored,
                    const std::string& data_fingerprint) {
  // Keys that do not decide which numbers come out. The data's contents are compared by fingerprint, not by
  // path.
  static const std::vector<std::string> kFree = {
      "output",          "device",          "log",      "validate",
      "checkpoint",      "data.train",      "data.val", "train.max_bad_steps",
      "train.recompute", "train.cuda_graph"};
  const auto is_free = [](const std::string& key) {
    for (const std::string& prefix : kFree)
      if (key == prefix || key.starts_with(prefix + ".") || key.starts_with(prefix + "[")) return true;
    return false;
  };

  // A checkpoint cannot become another model, so model.* is refused even under accept_changes.
  const bool accepting = now.checkpoint.accept_changes;
  std::string changes;
  const auto before = flatten(read_train_config(folder + "/config.yaml"));
  const auto after = flatten(now);
  DR_CHECK(before.size() == after.size());
  for (size_t i = 0; i < after.size(); ++i)
    if (before[i].second != after[i].second && !is_free(after[i].first) &&
        (!accepting || after[i].first.starts_with("model.")))
      changes += fmt::format("{}{} was {}, is {}", changes.empty() ? "" : "; ", after[i].first,
                             before[i].second, after[i].second);
  if (!accepting && stored.data_fingerprint != data_fingerprint)
    changes += fmt::format("{}the tokens of data.train have changed", changes.empty() ? "" : "; ");
  if (changes.empty()) return;
  throw ConfigError("{}: made by another run: {}: restore this, or set another output{}", folder, changes,
                    accepting ? "" : ", or set checkpoint.accept_changes: true to go on regardless");
}

}  // namespace depthroute
