#include "train/run_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <optional>
#include <string_view>

#include "configs/base/error.h"

namespace depthroute {

namespace fs = std::filesystem;

std::string metrics_path(const std::string& output) { return output + "/metrics.jsonl"; }
std::string checkpoints_path(const std::string& output) { return output + "/checkpoints"; }
std::string checkpoint_name(int64_t step) { return fmt::format("step_{:08}", step); }

namespace {

/// The step of "step_<at least eight digits>"; nothing for any other name.
std::optional<int64_t> step_of(std::string_view name) {
  constexpr std::string_view kPrefix = "step_";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  const std::string_view digits = name.substr(kPrefix.size());
  if (digits.size() < 8 || digits.size() > 15) return std::nullopt;
  if (digits.find_first_not_of("0123456789") != std::string_view::npos) return std::nullopt;
  return std::stoll(std::string(digits));
}

/// data/files.h puts ".tmp-" and the process behind the name of whatever is unfinished, half-deleted folders
/// included. All processes of a job write into the folder the first one has made.
bool is_leftover(std::string_view name) {
  const size_t mark = name.find(".tmp-");
  if (mark == std::string_view::npos || name.find_first_of("0123456789", mark) != mark + 5) return false;
  const std::string_view of = name.substr(0, mark);
  return of == "latest" || of == "metrics.jsonl" || step_of(of);
}

}  // namespace

std::vector<CheckpointFolder> list_checkpoints(const std::string& output) {
  std::vector<CheckpointFolder> found;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(checkpoints_path(output), error)) {
    const std::optional<int64_t> step = step_of(entry.path().filename().string());
    if (step && entry.is_directory(error)) found.push_back({*step, entry.path().string()});
  }
  std::sort(found.begin(), found.end(),
            [](const CheckpointFolder& a, const CheckpointFolder& b) { return a.step < b.step; });
  return found;
}

void clean_leftovers(const std::string& output) {
  std::error_code error;
  std::vector<fs::path> leftovers;
  for (const std::string& folder : {output, checkpoints_path(output)})
    for (const fs::directory_entry& entry : fs::directory_iterator(folder, error))
      if (is_leftover(entry.path().filename().string())) leftovers.push_back(entry.path());
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
