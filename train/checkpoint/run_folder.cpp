#include "train/checkpoint/run_folder.h"

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "configs/base/error.h"
#include "configs/base/regular_file.h"
#include "data/atomic_path.h"
#include "data/files.h"

namespace depthroute {

namespace fs = std::filesystem;

namespace {

/// The type of the entry itself, not of what a link points to.
fs::file_type type_at(const std::string& path) {
  std::error_code error;
  const fs::file_type type = fs::symlink_status(path, error).type();
  if (type == fs::file_type::none) throw_unreadable(path, "cannot be accessed", error.value());
  return type;
}

void rename_in_place(const std::string& from, const std::string& to) {
  std::error_code error;
  fs::rename(from, to, error);
  if (error) throw SystemError("cannot rename {} to {}: {}", from, to, errno_text(error.value()));
}

const std::string& made_folder(const std::string& output) {
  std::error_code error;
  fs::create_directories(output, error);
  if (error && exists(output) && !is_folder(output))
    throw ConfigError("output {}: is a file, not a folder: name another", output);
  if (error) throw SystemError("output {}: the folder cannot be made: {}", output, errno_text(error.value()));
  return output;
}

}  // namespace

std::vector<CheckpointFolder> list_checkpoints(const std::string& output) {
  std::vector<CheckpointFolder> found;
  for (const std::string& name : list_folder(checkpoints_path(output))) {
    const std::optional<int64_t> step = step_of_checkpoint(name);
    const std::string path = checkpoints_path(output) + "/" + name;
    if (step && is_folder(path)) found.push_back({*step, path});
  }
  std::sort(found.begin(), found.end(),
            [](const CheckpointFolder& a, const CheckpointFolder& b) { return a.step < b.step; });
  return found;
}

bool has_checkpoints(const std::string& output) {
  return !list_checkpoints(output).empty() || is_folder(latest_path(output));
}

void restore_latest_folder(const std::string& output) {
  const std::string latest = latest_path(output);
  if (type_at(latest) != fs::file_type::directory) return;
  const auto refusal = [&](const std::string& reason) {
    return ConfigError("{}: is a folder where a link belongs, {}: move it away", latest, reason);
  };
  if (list_folder(latest).empty()) return remove_folder(latest);
  if (!has_manifest(latest)) throw refusal("and no checkpoint");
  const Manifest manifest = verify_checkpoint_folder(latest);
  const std::string checkpoint = checkpoint_path(output, manifest.step);
  if (!exists(checkpoint)) return rename_in_place(latest, checkpoint);
  const auto manifest_in = [](const std::string& folder) { return read_file(folder + "/" + kManifestName); };
  if (manifest_in(checkpoint) != manifest_in(latest))
    throw refusal(fmt::format("and not the same as {}", checkpoint));
  remove_folder(latest);
}

void mend_latest(const std::string& output, const std::string& checkpoint) {
  const std::string latest = latest_path(output), name = fs::path(checkpoint).filename().string();
  if (type_at(latest) == fs::file_type::symlink && fs::read_symlink(latest) == name) return;
  replace_symlink(name, latest);
}

void clean_leftovers(const std::string& output) {
  std::error_code ignored;
  for (const std::string& folder : {output, checkpoints_path(output)})
    for (const std::string& name : list_folder(folder))
      if (is_run_entry(name_when_finished(name))) fs::remove_all(folder + "/" + name, ignored);
}

RunLock::RunLock(const std::string& output)
    : lock_(lock_path(made_folder(output)),
            "another run is writing this folder: wait for it, or set another output",
            FileLock::Afterwards::keep_file) {}

}  // namespace depthroute
