// Checkpoint folders as their readers see them: what they are called, what must be in them, and which model a
// path means. Written by train/; read by training, evaluation and whoever is given a run folder.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "data/manifest.h"
#include "data/model_folder.h"

namespace depthroute {

inline constexpr const char* kCheckpointKind = "depthroute checkpoint";  // in the manifest

/// "step_00001000"
std::string checkpoint_name(int64_t step);
/// The step of "step_<at least eight digits>"; nothing for any other name.
std::optional<int64_t> step_of_checkpoint(std::string_view name);
std::string checkpoint_model_path(const std::string& folder);

/// verify_manifest(), and that it is a checkpoint's: of that kind, with everything a checkpoint has, and of
/// the step the folder is named after, if it is named after one. DataError naming what is wrong.
Manifest verify_checkpoint_folder(const std::string& folder);

/// The absolute path behind all links. DataError where there is nothing, AccessError where it cannot be told.
std::string resolve_links(const std::string& path);

/// What `model.from` names -> the model folder: a checkpoint folder or a link to one (it is verified, its
/// model/ is used), a run folder (its checkpoints/latest), or a model folder itself. Links are resolved once,
/// here: the path returned means the same model whatever `latest` becomes. DataError otherwise.
std::string find_model_folder(const std::string& path);

/// find_model_folder(), opened: what the returned object has mapped is what the checkpoint's manifest says.
/// Where training deletes or replaces the checkpoint meanwhile, it is looked for again, so that a path
/// through `latest` leads to the next one; DataError "... was deleted while it was read" where it leads
/// nowhere else.
ModelFolder open_model(const std::string& path);

}  // namespace depthroute
