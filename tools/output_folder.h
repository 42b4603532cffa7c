// The folder a tokenizer publishes its set in, as it was before. The new folder takes its place in one step,
// so everything in it that is not replaced has to move along.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "data/file_lock.h"

namespace depthroute {

class OutputFolder {
 public:
  /// Finds the real folder behind `path` (which need not exist; the folders above it are made), locks out
  /// other tokenizers with `<folder>.lock`, and removes what killed ones left. ConfigError if it cannot be
  /// replaced: a file, a mount point, the current folder or one above it, a folder that may not be written.
  explicit OutputFolder(const std::string& path);
  /// Removes the folders made above it if they are still empty.
  ~OutputFolder();
  OutputFolder(const OutputFolder&) = delete;
  OutputFolder& operator=(const OutputFolder&) = delete;

  const std::string& path() const { return path_; }  // absolute, without links
  /// Returns the sorted names inside when this object was made; none if there was no folder.
  std::vector<std::string> names() const;
  bool holds(const std::string& name) const;

  /// Gives `to`, a folder on the same file system, everything that is inside but `left_out`: the files
  /// themselves (hard links), not copies. ConfigError naming what cannot be: a folder, or what the system
  /// refuses to link.
  void carry_over(const std::string& to, const std::set<std::string>& left_out) const;
  /// Gives `to` the owner and mode of this folder, if there is one.
  void pass_on_mode(const std::string& to) const;
  /// SystemError naming the first file that has appeared, vanished or been replaced since this object was
  /// made, or, of those in `dropped`, been changed. The content of others may change: they move along.
  void check_unchanged(const std::set<std::string>& dropped) const;

 private:
  struct Entry {
    std::string name;  // "" is the folder itself
    mode_t mode;
    uid_t owner;
    gid_t group;
    dev_t device;
    ino_t inode;
    int64_t size, modified_ns;
  };
  class MadeFolders;  // above `path`, taken back if they stay empty
  std::vector<Entry> look() const;

  std::unique_ptr<MadeFolders> made_;
  std::string path_;
  std::unique_ptr<FileLock> lock_;
  std::vector<Entry> entries_;  // the folder, then what is inside, by name; nothing if it is not there
};

}  // namespace depthroute
