// The folder a run writes: its names, its lock, and which checkpoints it holds.
//   <output>/lock                          held while a run writes here
//   <output>/metrics.jsonl
//   <output>/checkpoints/step_00001000/    complete or absent
//   <output>/checkpoints/latest            link to the newest
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace depthroute {

std::string metrics_path(const std::string& output);
std::string checkpoints_path(const std::string& output);
/// "step_00001000"
std::string checkpoint_name(int64_t step);

struct CheckpointFolder {
  int64_t step;
  std::string path;
};
/// Folders named like checkpoints, by step, whether they are whole or not. Empty where there is no such
/// folder.
std::vector<CheckpointFolder> list_checkpoints(const std::string& output);

/// Deletes what a killed run left beside its checkpoints and log: half-written or half-deleted things of our
/// own naming only. To be called with the lock held.
void clean_leftovers(const std::string& output);

/// Keeps a second run out of the folder for as long as this object lives. The kernel releases it with the
/// process, so a killed run never leaves a stale one.
class RunLock {
 public:
  /// Makes the folder if there is none. ConfigError naming the lock file if another process holds it.
  explicit RunLock(const std::string& output);
  ~RunLock();
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

 private:
  int fd_ = -1;
};

}  // namespace depthroute
