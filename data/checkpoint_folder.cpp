#include "data/checkpoint_folder.h"

#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <system_error>

#include "configs/base/error.h"
#include "configs/base/regular_file.h"
#include "configs/scalar.h"
#include "data/files.h"
#include "data/json.h"

namespace depthroute {
namespace fs = std::filesystem;
namespace {

/// The folder that a path leads to, before anything in it is read.
struct Found {
  std::string root;        // links resolved
  bool checkpoint = true;  // or a model folder
  std::string model() const { return checkpoint ? checkpoint_model_path(root) : root; }
};

Found find(const std::string& path) {
  const std::string root = resolve_links(path);
  if (has_manifest(root)) return {root, true};
  if (exists(root + "/config.json")) {
    const fs::path parent = fs::path(root).parent_path();
    const bool inside = root == checkpoint_model_path(parent.string()) && has_manifest(parent.string());
    return inside ? Found{parent.string(), true} : Found{root, false};
  }
  const std::string latest = latest_path(root);
  std::error_code ignored;
  if (exists(latest) || fs::is_symlink(latest, ignored)) return find(latest);
  if (exists(checkpoint_model_path(root) + "/config.json"))
    throw DataError("{}: a checkpoint without {} is incomplete; use another one", path, kManifestName);
  throw DataError(
      "{}: neither a model folder (config.json), a checkpoint ({}) nor a run folder (checkpoints/latest)",
      path, kManifestName);
}

std::optional<Found> find_if_any(const std::string& path) {
  try {
    return find(path);
  } catch (const DataError&) {
    return std::nullopt;
  }
}

/// Which folder is at a path just now; nothing where none is.
std::optional<std::pair<dev_t, ino_t>> identity(const std::string& path) {
  struct stat status;
  if (::stat(path.c_str(), &status) != 0) return std::nullopt;
  return std::pair(status.st_dev, status.st_ino);
}

ModelFolder open_verified(const Found& found) {
  if (!found.checkpoint) return ModelFolder(found.root);
  const Manifest manifest = verify_checkpoint_folder(found.root);
  ModelFolder model(found.model());
  for (const ManifestFile& mapped : model.files()) {
    const std::string path = fmt::format("{}/{}", kModelName, mapped.path);
    const bool listed = std::any_of(manifest.files.begin(), manifest.files.end(), [&](const ManifestFile& f) {
      return f.path == path && f.checksum == mapped.checksum;
    });
    if (!listed) throw DataError("{}/{}: changed while it was read; run again", found.root, path);
  }
  return model;
}

}  // namespace

Manifest verify_checkpoint_folder(const std::string& folder) {
  Manifest manifest = verify_manifest(folder);
  if (manifest.kind != kCheckpointKind)
    throw DataError("{}: its {} is of kind {}, not \"{}\": name a checkpoint folder", folder, kManifestName,
                    quote(manifest.kind), kCheckpointKind);
  for (const std::string& name :
       {std::string(kStateName), std::string(kConfigName), kModelName + std::string("/config.json")})
    if (std::none_of(manifest.files.begin(), manifest.files.end(),
                     [&](const ManifestFile& file) { return file.path == name; }))
      throw DataError("{}: its {} does not list {}, which every checkpoint has: use another one", folder,
                      kManifestName, name);
  const std::string name = fs::path(folder).filename().string();
  const std::optional<int64_t> named = step_of_checkpoint(name);
  if (named && *named != manifest.step)
    throw DataError("{}: named after step {}, but it holds step {}: name it {} if that is what it is", folder,
                    *named, manifest.step, checkpoint_name(manifest.step));
  return manifest;
}

std::string resolve_links(const std::string& path) {
  const std::unique_ptr<char, void (*)(void*)> real(::realpath(path.c_str(), nullptr), ::free);
  if (real && valid_utf8_prefix(real.get()) != std::strlen(real.get()))
    throw DataError("{}: lies in a folder whose name is not UTF-8, which results cannot record: move it",
                    path);
  if (real) return real.get();
  const int reason = errno;
  std::error_code none;
  const fs::path target = fs::read_symlink(path, none);
  if (means_absent(reason) && !none)
    throw DataError("{}: a link to {}, which does not exist", path, target.string());
  if (reason == ENOENT)
    throw DataError("{}: does not exist; give a model folder, a checkpoint or a run folder", path);
  throw_unreadable(path, "cannot be found", reason);
}

std::string find_model_folder(const std::string& path) {
  const Found found = find(path);
  if (found.checkpoint) verify_checkpoint_folder(found.root);
  return found.model();
}

ModelFolder open_model(const std::string& path) {
  constexpr int kMostTries = 10;
  Found found = find(path);
  for (int attempt = 1;; ++attempt) {
    const auto before = identity(found.root);
    try {
      return open_verified(found);
    } catch (const DataError&) {
      const auto now = identity(found.root);
      if (before && before == now) throw;  // nobody has touched it: this is what is wrong with it
      const std::optional<Found> next = now ? found : find_if_any(path);
      if (!next || attempt == kMostTries)
        throw DataError(
            "{}: was deleted while it was read (training keeps the newest checkpoint.keep): run again, or "
            "name one that stays",
            found.root);
      found = *next;
    }
  }
}

}  // namespace depthroute
