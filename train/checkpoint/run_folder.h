// The folder a run writes: its lock, which checkpoints it holds, and putting right what a killed run left
// there. Its names are in data/run_layout.h.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/checkpoint_folder.h"
#include "data/file_lock.h"
#include "data/run_layout.h"

namespace depthroute {

struct CheckpointFolder {
  int64_t step;
  std::string path;
};
/// Folders named like checkpoints, by step, whole or not. Empty if there is no checkpoints/; AccessError if
/// it cannot be listed: a run must never take that for a fresh start.
std::vector<CheckpointFolder> list_checkpoints(const std::string& output);
/// Whether an earlier run left checkpoints, or something in the place of one. AccessError likewise.
bool has_checkpoints(const std::string& output);

/// Turns a `latest` that is a folder, as `cp -rL` makes of the link, into the checkpoint it holds; deletes it
/// if that checkpoint exists already. ConfigError if it holds something else. Call it with the lock held,
/// before anything is decided.
void restore_latest_folder(const std::string& output);
/// Makes `latest` point to `checkpoint`, a folder of this run, if it does not: a run killed between a
/// checkpoint's rename and that of the link leaves the link behind. Call it with the lock held.
void mend_latest(const std::string& output, const std::string& checkpoint);

/// Deletes what a killed run left beside its checkpoints and log: half-written or half-deleted things of our
/// own naming only. Call it with the lock held.
void clean_leftovers(const std::string& output);

/// Keeps a second run out of the folder while it lives.
class RunLock {
 public:
  /// Makes the folder if there is none. ConfigError naming the lock file if another process holds it, or if
  /// `output` is not a folder.
  explicit RunLock(const std::string& output);

 private:
  FileLock lock_;
};

}  // namespace depthroute
