// Checkpoint folders as their readers see them: what must be in them, and which model a path means. Training
// writes them; training, evaluation and whoever is given a run's folder read them.
#pragma once

#include <string>

#include "data/manifest.h"
#include "data/model/model_folder.h"
#include "data/run_layout.h"

namespace depthroute {

inline constexpr const char* kCheckpointKind = "depthroute checkpoint";  // in the manifest

/// verify_manifest(), and checks that it is a checkpoint's: of that kind, with everything a checkpoint has,
/// and of the step the folder is named after, if it is named after one. DataError naming what is wrong.
Manifest verify_checkpoint_folder(const std::string& folder);

/// The absolute path behind all links. DataError if nothing is there, AccessError if that cannot be
/// determined.
std::string resolve_links(const std::string& path);

/// The model folder that `model.from` means: a checkpoint folder or a link to one (verifies it and takes its
/// model/), a run's folder (takes its checkpoints/latest), or a model folder itself. Links are resolved once,
/// here: the returned path means the same model whatever `latest` becomes. DataError for anything else.
std::string find_model_folder(const std::string& path);

/// Opens find_model_folder(): what the returned object has mapped is what the checkpoint's manifest says. If
/// training deletes or replaces the checkpoint meanwhile, looks for it again, so that a path through `latest`
/// leads to the next one; DataError "... was deleted while it was read" if it leads nowhere else.
ModelFolder open_model(const std::string& path);

}  // namespace depthroute
