#include "train/run_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <regex>

#include "configs/base/error.h"

namespace depthroute {

namespace fs = std::filesystem;

std::string metrics_path(const std::string& output) { return output + "/metrics.jsonl"; }
std::string checkpoints_path(const std::string& output) { return output + "/checkpoints"; }
std::string checkpoint_name(int64_t step) { return fmt::format("step_{:08}", step); }

std::vector<CheckpointFolder> list_checkpoints(const std::string& output) {
  static const std::regex pattern("step_([0-9]{8,15})");
  std::vector<CheckpointFolder> found;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(checkpoints_path(output), error)) {
    const std::string name = entry.path().filename().string();
    std::smatch match;
    if (std::regex_match(name, match, pattern) && entry.is_directory(error))
      found.push_back({std::stoll(match[1]), entry.path().string()});
  }
  std::sort(found.begin(), found.end(),
            [](const CheckpointFolder& a, const CheckpointFolder& b) { return a.step < b.step; });
  return found;
}

void clean_leftovers(const std::string& output) {
  // data/files.h puts ".tmp-" and the process behind the name of whatever is unfinished, half-deleted folders
  // included.
  static const std::regex pattern(R"((step_[0-9]{8,15}|latest|metrics\.jsonl)\.tmp-[0-9]+(-[0-9]+)?(-replaced)?)");
  std::error_code error;
  std::vector<fs::path> leftovers;
  for (const std::string& folder : {output, checkpoints_path(output)})
    for (const fs::directory_entry& entry : fs::directory_iterator(folder, error))
      if (std::regex_match(entry.path().filename().string(), pattern)) leftovers.push_back(entry.path());
  for (const fs::path& path : leftovers) fs::remove_all(path, error);
}

RunLock::RunLock(const std::string& output) {
  std::error_code error;
  fs::create_directories(output, error);
  if (error) throw SystemError("output {}: the folder cannot be made: {}", output, error.message());
  const std::string path = output + "/lock";
  fd_ = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd_ < 0) throw SystemError("{}: cannot be opened: {}", path, std::strerror(errno));
  if (flock(fd_, LOCK_EX | LOCK_NB) == 0) return;
  const int reason = errno;
  close(fd_);
  if (reason != EWOULDBLOCK) throw SystemError("{}: cannot be locked: {}", path, std::strerror(reason));
  throw ConfigError("{}: another run is writing this folder: wait for it, or set another output", path);
}

RunLock::~RunLock() { close(fd_); }

}  // namespace depthroute
