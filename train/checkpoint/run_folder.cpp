#include "train/checkpoint/run_folder.h"

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <string_view>
#include <system_error>

#include "configs/base/error.h"
#include "configs/base/regular_file.h"
#include "data/atomic_path.h"
#include "data/files.h"

namespace depthroute {

namespace fs = std::filesystem;

namespace {
constexpr const char* kContents = "data_checksums.json";
}

std::string metrics_path(const std::string& output) { return output + "/metrics.jsonl"; }
std::string checkpoints_path(const std::string& output) { return output + "/checkpoints"; }
std::string latest_path(const std::string& output) { return checkpoints_path(output) + "/latest"; }
std::string contents_path(const std::string& output) { return output + "/" + kContents; }

namespace {

/// data/files.h puts ".tmp-" and the process behind the name of whatever is unfinished, half-deleted folders
/// included. All processes of a job write into the folder the first one has made.
bool is_leftover(std::string_view name) {
  const size_t mark = name.find(".tmp-");
  if (mark == std::string_view::npos || name.find_first_of("0123456789", mark) != mark + 5) return false;
  const std::string_view of = name.substr(0, mark);
  return of == "latest" || of == "metrics.jsonl" || of == kContents || step_of_checkpoint(of);
}

/// Of the entry itself, not of what a link names.
fs::file_type type_at(const std::string& path) {
  std::error_code error;
  const fs::file_type type = fs::symlink_status(path, error).type();
  if (type == fs::file_type::none) throw_unreadable(path, "cannot be looked at", error.value());
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
  const std::string checkpoint = checkpoints_path(output) + "/" + checkpoint_name(manifest.step);
  if (!exists(checkpoint)) return rename_in_place(latest, checkpoint);
  if (read_file(checkpoint + "/manifest.json") != read_file(latest + "/manifest.json"))
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
      if (is_leftover(name)) fs::remove_all(folder + "/" + name, ignored);
}

RunLock::RunLock(const std::string& output)
    : lock_(made_folder(output) + "/lock",
            "another run is writing this folder: wait for it, or set another output",
            FileLock::Afterwards::keep_file) {}

}  // namespace depthroute
