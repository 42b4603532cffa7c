// The folder a run writes: its names, its lock, and which checkpoints it holds.
//   <output>/lock                          held while a run writes here
//   <output>/metrics.jsonl
//   <output>/data_checksums.json           what reading the shards has told (contents_cache.h)
//   <output>/checkpoints/step_00001000/    complete or absent
//   <output>/checkpoints/latest            link to the newest
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/checkpoint_folder.h"
#include "data/file_lock.h"

namespace depthroute {

std::string metrics_path(const std::string& output);
std::string checkpoints_path(const std::string& output);
std::string latest_path(const std::string& output);
std::string contents_path(const std::string& output);

struct CheckpointFolder {
  int64_t step;
  std::string path;
};
/// Folders named like checkpoints, by step, whether they are whole or not. Empty where there is no
/// checkpoints/; AccessError where it cannot be listed: a run must never take that for a fresh start.
std::vector<CheckpointFolder> list_checkpoints(const std::string& output);
/// Whether an earlier run has left checkpoints, or something in the place of one. AccessError likewise.
bool has_checkpoints(const std::string& output);

/// With the lock held, before anything is decided: a `latest` that is a folder, as `cp -rL` makes of the
/// link, becomes the checkpoint it holds, or goes where that is there already. ConfigError if it holds
/// something else.
void restore_latest_folder(const std::string& output);
/// With the lock held: makes `latest` name `checkpoint`, a folder of this run, if it does not. A run killed
/// between a checkpoint's rename and its link leaves the link behind.
void mend_latest(const std::string& output, const std::string& checkpoint);

/// Deletes what a killed run left beside its checkpoints and log: half-written or half-deleted things of our
/// own naming only. To be called with the lock held.
void clean_leftovers(const std::string& output);

/// Keeps a second run out of the folder for as long as it lives.
class RunLock {
 public:
  /// Makes the folder if there is none. ConfigError naming the lock file if another process holds it, or if
  /// `output` is no folder.
  explicit RunLock(const std::string& output);

 private:
  FileLock lock_;
};

}  // namespace depthroute
