// The names of everything a training run writes. They are spelled here and nowhere else.
//
//   <output>/lock                          held while a run writes here (file_lock.h)
//   <output>/metrics.jsonl                 one JSON object a line
//   <output>/tensorboard/events.out.tfevents.0000000001.depthroute, of the run's first start (train/tensorboard.h)
//   <output>/data_checksums.json           what reading the token shards told (contents_cache.h)
//   <output>/gemm_choices.json             which algorithms compute its matrix products (train/checkpoint/gemm_choices_file.h)
//   <output>/checkpoints/latest            link to the newest checkpoint
//   <output>/checkpoints/step_00001000/    a checkpoint, complete or absent:
//     manifest.json                        size and checksum of everything else, written last (manifest.h)
//     state.json                           the rest of a run: step, position (train/checkpoint/format.h)
//     config.yaml                          every key of the configuration
//     model/                               a model folder, usable by itself (model_folder.h has its names)
//     optimizer.safetensors                both moments; n > 1 ranks: optimizer-0000r-of-0000n.safetensors
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace depthroute {

std::string lock_path(const std::string& output);
std::string metrics_path(const std::string& output);
std::string tensorboard_path(const std::string& output);
std::string contents_path(const std::string& output);
std::string gemm_choices_path(const std::string& output);
std::string checkpoints_path(const std::string& output);
std::string latest_path(const std::string& output);
std::string checkpoint_path(const std::string& output, int64_t step);
/// Whether a run gives this name to something that it replaces or deletes, in its folder or in checkpoints/:
/// what is called like that and ".tmp-..." is its own leftover.
bool is_run_entry(std::string_view name);

/// "step_00001000"
std::string checkpoint_name(int64_t step);
/// The step of "step_<8 to 15 digits>"; nothing for any other name.
std::optional<int64_t> step_of_checkpoint(std::string_view name);

// Inside a checkpoint.
inline constexpr const char* kManifestName = "manifest.json";
inline constexpr const char* kStateName = "state.json";
inline constexpr const char* kConfigName = "config.yaml";
inline constexpr const char* kModelName = "model";
std::string checkpoint_model_path(const std::string& folder);
/// The optimizer shard of `rank`, one of `ranks`.
std::string moments_name(int rank, int ranks);
bool is_moments_name(std::string_view name);

}  // namespace depthroute
