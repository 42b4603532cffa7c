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

/// A path's model, before anything of it is read.
struct Place {
  std::string root;        // links resolved
  bool checkpoint = true;  // or a model folder
  std::string model() const { return checkpoint ? checkpoint_model_path(root) : root; }
};

Place place_of(const std::string& path) {
  const std::string root = resolve_links(path);
  if (has_manifest(root)) return {root, true};
  if (exists(root + "/config.json")) {
    const fs::path parent = fs::path(root).parent_path();
    const bool inside = root == checkpoint_model_path(parent.string()) && has_manifest(parent.string());
    return inside ? Place{parent.string(), true} : Place{root, false};
  }
  const std::string latest = root + "/checkpoints/latest";
  std::error_code ignored;
  if (exists(latest) || fs::is_symlink(latest, ignored)) return place_of(latest);
  if (exists(root + "/model/config.json"))
    throw DataError("{}: a checkpoint without manifest.json is incomplete; use another one", path);
  throw DataError(
      "{}: neither a model folder (config.json), a checkpoint (manifest.json) nor a run folder "
      "(checkpoints/latest)",
      path);
}

std::optional<Place> place_if_any(const std::string& path) {
  try {
    return place_of(path);
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

ModelFolder open_verified(const Place& place) {
  if (!place.checkpoint) return ModelFolder(place.root);
  const Manifest manifest = verify_checkpoint_folder(place.root);
  ModelFolder model(place.model());
  for (const ManifestFile& mapped : model.files()) {
    const std::string path = "model/" + mapped.path;
    const bool listed = std::any_of(manifest.files.begin(), manifest.files.end(), [&](const ManifestFile& f) {
      return f.path == path && f.checksum == mapped.checksum;
    });
    if (!listed) throw DataError("{}/{}: changed while it was read; run again", place.root, path);
  }
  return model;
}

}  // namespace

std::string checkpoint_name(int64_t step) { return fmt::format("step_{:08}", step); }

std::optional<int64_t> step_of_checkpoint(std::string_view name) {
  constexpr std::string_view kPrefix = "step_";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  const std::string_view digits = name.substr(kPrefix.size());
  if (digits.size() < 8 || digits.size() > 15) return std::nullopt;
  if (digits.find_first_not_of("0123456789") != std::string_view::npos) return std::nullopt;
  return std::stoll(std::string(digits));
}

std::string checkpoint_model_path(const std::string& folder) { return folder + "/model"; }

Manifest verify_checkpoint_folder(const std::string& folder) {
  Manifest manifest = verify_manifest(folder);
  if (manifest.kind != kCheckpointKind)
    throw DataError("{}: its manifest.json is of kind {}, not \"{}\": name a checkpoint folder", folder,
                    quote(manifest.kind), kCheckpointKind);
  for (const char* name : {"state.json", "config.yaml", "model/config.json"})
    if (std::none_of(manifest.files.begin(), manifest.files.end(),
                     [&](const ManifestFile& file) { return file.path == name; }))
      throw DataError("{}: its manifest.json does not list {}, which every checkpoint has: use another one",
                      folder, name);
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
  const Place place = place_of(path);
  if (place.checkpoint) verify_checkpoint_folder(place.root);
  return place.model();
}

ModelFolder open_model(const std::string& path) {
  constexpr int kMostTries = 10;
  Place place = place_of(path);
  for (int attempt = 1;; ++attempt) {
    const auto before = identity(place.root);
    try {
      return open_verified(place);
    } catch (const DataError&) {
      const auto now = identity(place.root);
      if (before && before == now) throw;  // nobody has touched it: this is what is wrong with it
      const std::optional<Place> next = now ? place : place_if_any(path);
      if (!next || attempt == kMostTries)
        throw DataError(
            "{}: was deleted while it was read (training keeps the newest checkpoint.keep): run again, or "
            "name one that stays",
            place.root);
      place = *next;
    }
  }
}

}  // namespace depthroute
